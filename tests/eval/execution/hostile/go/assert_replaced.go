// Brings its own assert.
// verdict: compile error
// says: assert
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

type yes struct{}

func (yes) New(*testing.T) yes         { return yes{} }
func (yes) Equal(_, _ interface{}) bool { return true }

var assert yes

func Answer() int { return 41 }
