// Brings its own main.
// verdict: compile error
// says: main redeclared
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func main() {}

func Answer() int { return 41 }
