// Package ort binds the C API of ONNX Runtime (onnxruntime_c_api.h, API
// version 24: libraries 1.24 and newer) without cgo: the shared library is
// opened at run time through purego.
//
// State lives in values: a [Library] is a loaded file, an [Env] its
// environment, a [Session] a loaded model. Tensors are [Value]s over Go memory
// or over memory of the library; [Session.Run] runs once, a [Call] runs the
// same inputs and outputs again and again without garbage, a [Binding] places
// outputs on a device. The package knows no model folder and no language
// model, does not find or fetch the library (nativelib does), reads no
// environment variable and prints nothing. Sequence, map, optional, sparse and
// string values, custom operators and training are left out.
//
// Concurrency: Library, Env and Session may be used by many goroutines at
// once; a Value, Call, Binding or RunOptions by one at a time, except that
// [RunOptions.Terminate] may come from anywhere.
//
// Memory: a Value over a Go slice pins that slice until it is closed; the
// caller keeps writing to and reading from it between runs. Everything with a
// Close method holds memory of the library and must be closed; Close may be
// called twice, and use after Close is an error. What is still in use (a
// session during a run, a value in a Call) is freed when that use ends.
package ort
