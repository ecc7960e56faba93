// Wants all memory.
// verdict: memory
// limits: memory_mib=300
package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	kept := [][]byte{}
	for {
		kept = append(kept, make([]byte, 10000000))
		for i := 0; i < 10000000; i += 4096 {
			kept[len(kept)-1][i] = 1
		}
	}
}
