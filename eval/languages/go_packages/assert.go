// Package assert stands in for testify's package of the same import path.
//
// Covers: New, Equal and NotEqual, True, False, Nil, with testify's rule of equality: two values are equal if both
// are byte slices with the same bytes, or if reflect.DeepEqual says so (so int 1 and int64 1 differ).
// Does not cover: the rest of testify, its messages, comparing functions. It does without packages fmt, strings and bytes,
// since a program without them is linked sooner.
package assert

import (
	"reflect"
	"strconv"
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
		return string(left) == string(right)
	}
	return reflect.DeepEqual(expected, actual)
}

// Equal reports an error of the test unless both are equal.
func (a *Assertions) Equal(expected, actual interface{}, message ...interface{}) bool {
	return a.report(ObjectsAreEqual(expected, actual), "expected ", expected, ", got ", actual)
}

// NotEqual reports an error of the test if both are equal.
func (a *Assertions) NotEqual(expected, actual interface{}, message ...interface{}) bool {
	return a.report(!ObjectsAreEqual(expected, actual), "did not expect ", actual)
}

// True reports an error of the test unless the value is true.
func (a *Assertions) True(value bool, message ...interface{}) bool {
	return a.report(value, "expected ", true)
}

// False reports an error of the test unless the value is false.
func (a *Assertions) False(value bool, message ...interface{}) bool {
	return a.report(!value, "expected ", false)
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
	return a.report(isNil, "expected nil, got ", value)
}

// report takes words and values in turn.
func (a *Assertions) report(holds bool, said ...interface{}) bool {
	if !holds {
		message := "assertion failed: "
		for index, part := range said {
			if index%2 == 0 {
				message += part.(string)
			} else {
				message += show(reflect.ValueOf(part), 0)
			}
		}
		a.t.Errorf("%s", message)
	}
	return holds
}

const deepest, longest = 4, 100

// show writes a value as in a program; cut where it is deep or long.
func show(value reflect.Value, depth int) string {
	if !value.IsValid() {
		return "nil"
	}
	name := value.Type().String()
	switch kind := value.Kind(); {
	case kind == reflect.Bool:
		return strconv.FormatBool(value.Bool())
	case kind >= reflect.Int && kind <= reflect.Int64:
		return strconv.FormatInt(value.Int(), 10)
	case kind >= reflect.Uint && kind <= reflect.Uintptr:
		return strconv.FormatUint(value.Uint(), 10)
	case kind == reflect.Float32 || kind == reflect.Float64:
		return strconv.FormatFloat(value.Float(), 'g', -1, value.Type().Bits())
	case kind == reflect.String:
		return strconv.Quote(value.String())
	case depth == deepest:
		return name + "{...}"
	case kind == reflect.Interface:
		return show(value.Elem(), depth+1)
	case kind == reflect.Ptr && !value.IsNil():
		return "&" + show(value.Elem(), depth+1)
	}
	parts, separator := "", ""
	add := func(part string) {
		parts += separator + part
		separator = ", "
	}
	switch value.Kind() {
	case reflect.Slice, reflect.Array:
		for index := 0; index < value.Len() && index < longest; index++ {
			add(show(value.Index(index), depth+1))
		}
	case reflect.Map:
		for _, key := range value.MapKeys() {
			add(show(key, depth+1) + ":" + show(value.MapIndex(key), depth+1))
		}
	case reflect.Struct:
		for index := 0; index < value.NumField(); index++ {
			add(value.Type().Field(index).Name + ":" + show(value.Field(index), depth+1))
		}
	}
	return name + "{" + parts + "}"
}
