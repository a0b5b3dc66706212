// Package test holds the tests of the whole system: they build the real
// binary, start it on loopback and talk to it as clients do.
//
// Set TRIVET_BINARY to test a binary that is built already.
package test
