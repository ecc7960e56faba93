// Calls itself without end.
// verdict: exception, memory
// says: stack|memory|MiB
// limits: memory_mib=300
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int { return Answer() + 1 }
