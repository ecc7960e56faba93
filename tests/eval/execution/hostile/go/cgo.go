// Brings C code.
// verdict: compile error
package main

// int answer() { return 42; }
import "C"

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int { return int(C.answer()) }
