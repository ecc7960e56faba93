// Leaves a child process and a goroutine and passes.
// verdict: passed
package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	go func() {
		for {
		}
	}()
	exec.Command("setsid", "sh", "-c", ": @MARK@; sleep 99").Start()
	return 42
}
