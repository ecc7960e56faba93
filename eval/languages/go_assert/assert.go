// Package assert stands in for testify's package of the same import path.
//
// Covers: New, Equal and NotEqual, True, False, Nil, with testify's rule of equality: two values are equal if both
// are byte slices with the same bytes, or if reflect.DeepEqual says so (so int 1 and int64 1 differ).
// Does not cover: the rest of testify, its messages, comparing functions.
package assert

import (
	"bytes"
	"reflect"
)

// TestingT is what a test hands to New.
type TestingT interface {
	Errorf(format string, args ...interface{})
}

// Assertions are bound to one test.
type Assertions struct {
	t TestingT
}

// New binds assertions to a test.
func New(t TestingT) *Assertions {
	return &Assertions{t}
}

// ObjectsAreEqual is the rule of equality.
func ObjectsAreEqual(expected, actual interface{}) bool {
	if expected == nil || actual == nil {
		return expected == actual
	}
	if left, ok := expected.([]byte); ok {
		right, ok := actual.([]byte)
		if !ok || left == nil || right == nil {
			return ok && left == nil && right == nil
		}
		return bytes.Equal(left, right)
	}
	return reflect.DeepEqual(expected, actual)
}

// Equal reports an error of the test unless both are equal.
func (a *Assertions) Equal(expected, actual interface{}, message ...interface{}) bool {
	return a.report(ObjectsAreEqual(expected, actual), "expected %#v, got %#v", expected, actual)
}

// NotEqual reports an error of the test if both are equal.
func (a *Assertions) NotEqual(expected, actual interface{}, message ...interface{}) bool {
	return a.report(!ObjectsAreEqual(expected, actual), "did not expect %#v", actual)
}

// True reports an error of the test unless the value is true.
func (a *Assertions) True(value bool, message ...interface{}) bool {
	return a.report(value, "expected true")
}

// False reports an error of the test unless the value is false.
func (a *Assertions) False(value bool, message ...interface{}) bool {
	return a.report(!value, "expected false")
}

// Nil reports an error of the test unless the value is nil.
func (a *Assertions) Nil(value interface{}, message ...interface{}) bool {
	isNil := value == nil
	if !isNil {
		switch held := reflect.ValueOf(value); held.Kind() {
		case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Ptr, reflect.Slice:
			isNil = held.IsNil()
		}
	}
	return a.report(isNil, "expected nil, got %#v", value)
}

func (a *Assertions) report(holds bool, format string, args ...interface{}) bool {
	if !holds {
		a.t.Errorf("assertion failed: "+format, args...)
	}
	return holds
}
