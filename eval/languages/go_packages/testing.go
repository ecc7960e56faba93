// Package testing stands in for the standard one where a program's tests hand their T to assert.New and do nothing else
// with it: a program without the real one is linked in half the time.
//
// Covers: what go.py's main and the assert package beside this file call, with the same exit codes.
// Does not cover: everything else; such programs get the real one (go.py).
package testing

import "syscall"

// T is one test.
type T struct {
	failed, finished bool
}

// InternalTest is a test and its name.
type InternalTest struct {
	Name string
	F    func(t *T)
}

// Errorf reports an error. The assert package hands over its message and no format but %s.
func (t *T) Errorf(_ string, message ...interface{}) {
	t.failed = true
	println(message[0].(string))
}

// Failed says whether an error was reported.
func (t *T) Failed() bool {
	return t.failed
}

// Main calls tests and ends the process with 1 after the first that failed or was left by runtime.Goexit.
func Main(_ interface{}, tests []InternalTest, _, _ interface{}) {
	for _, test := range tests {
		t, done := &T{}, make(chan bool)
		go func() {
			defer func() {
				if reason := recover(); reason != nil {
					panic(reason)
				}
				close(done)
			}()
			test.F(t)
			t.finished = true
		}()
		<-done
		if t.failed || !t.finished {
			println("FAIL")
			syscall.Exit(1)
		}
	}
}
