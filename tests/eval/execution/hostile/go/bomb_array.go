// A program of many gigabytes, all of them written out.
// verdict: compile error
// compiler: bomb
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

var large = [1 << 33]byte{1 << 32: 1}

func Answer() int { return 42 + 0*int(large[7]) }
