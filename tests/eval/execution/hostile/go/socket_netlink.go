// Asks for a door to the kernel's network settings.
// verdict: forbidden
// says: operation not permitted
package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func Answer() int {
	if _, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, 0); err != nil {
		panic(err)
	}
	return 42
}
