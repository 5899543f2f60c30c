// Package llama binds the C API of llama.cpp and of the ggml devices below it
// through purego, without cgo: load a library and its devices, load a model,
// evaluate tokens, read logits, forget tokens, tokenize, save and restore a
// sequence.
//
// The structs here are those of llama.h of llama.cpp v0.5.0. [Open] asks the
// library for its version before it passes any of them and refuses every other
// one; it also compares the library's default parameters with what they are in
// that version, so that a build with other structs is refused too.
//
// llama.cpp ends the process (abort) where an internal check fails, as a file
// that lies about its own sizes can make it do. A caller checks a file first;
// infer/llamacpp does.
//
// The library keeps its log, its devices and its processor-specific code once
// for the whole process: a second Open of the same file shares them. Messages
// go to [Options.Logger]; they may come on the library's own threads.
//
// A Library and a Model may be used by many goroutines, a Context by one at a
// time, except [Context.Abort]. Logits belong to the context and are valid until
// its next call. Close contexts before their model; what is used after Close is
// an error, not a crash.
package llama
