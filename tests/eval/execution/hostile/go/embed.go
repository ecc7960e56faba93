// Has the compiler copy the host's passwords into the program.
// verdict: compile error
// says: embed
package main

import (
	_ "embed"
	"testing"

	"github.com/stretchr/testify/assert"
)

//go:embed /etc/shadow
var shadow string

func Answer() int { return 42 + 0*len(shadow) }
