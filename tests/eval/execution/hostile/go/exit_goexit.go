// Ends the goroutine of the test, but not the program.
// verdict: exception, wrong answer, early exit
package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	runtime.Goexit()
	return 41
}
