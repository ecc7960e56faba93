// Leaves its test before an assertion is reached, while another goroutine keeps the program alive.
// verdict: early exit, exception
// says: exit code
package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	go func() { select {} }()
	runtime.Goexit()
	return 41
}
