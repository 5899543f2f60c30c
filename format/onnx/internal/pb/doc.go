// Package pb holds the Go types generated from onnx.proto, the file as it
// stands in release 1.23.2 of the ONNX project (Apache-2.0, IR version 14).
//
// Only format/onnx imports it: writers, passes and readers work with the plain
// structs there. The messages are not safe for concurrent modification.
package pb
