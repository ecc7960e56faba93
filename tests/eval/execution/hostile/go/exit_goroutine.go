// A goroutine ends the program with 0 while the test waits.
// verdict: early exit
// says: exit code 0
package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	go os.Exit(0)
	select {}
}
