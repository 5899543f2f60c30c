// Package oracle runs the reference programs that tests compare against: a
// Python environment of its own under the user's cache folder, npm packages
// that carry test material, the pinned ONNX Runtime and llama.cpp libraries.
//
// It is for tests and for the command that installs the environment; it knows
// nothing of the formats compared. Where the environment is absent a helper
// skips its test; with LLAMA_PAJAMAS_ORACLE=require, as in CI, it fails the
// test instead. All functions may be called from parallel tests.
package oracle
