// Package cli holds the command trees of the programs: flags become option
// structs, option structs become calls of the packages below, and results
// become text or JSON. It is the only package that reads the environment, and
// the only one that prints.
//
// One file holds one command; app.go holds what they share.
package cli
