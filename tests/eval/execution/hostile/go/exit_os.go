// Ends with os.Exit.
// verdict: early exit
// says: exit code 0
package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	os.Exit(0)
	return 41
}
