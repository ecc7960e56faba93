// Ends in init, before main.
// verdict: early exit
// says: exit code 0
package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func init() { os.Exit(0) }

func Answer() int { return 41 }
