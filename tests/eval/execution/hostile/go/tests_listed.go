// Has the tests listed in place of run, by the whole package testing.
// verdict: early exit
// says: exit code 0
package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

var _ testing.TB // which is not in the small one

func init() { os.Args = []string{"program", "-test.list=."} }

func Answer() int { return 41 }
