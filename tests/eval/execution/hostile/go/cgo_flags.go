// Gives options to the linker.
// verdict: compile error
// says: cgo
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

//go:cgo_ldflag "-Wl,-T,/etc/shadow"

func Answer() int { return 42 }
