// Ends with syscall.Exit.
// verdict: early exit
// says: exit code 0
package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	syscall.Exit(0)
	return 41
}
