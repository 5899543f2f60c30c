// Package mmap maps files into memory for reading: mmap on Unix,
// CreateFileMapping on Windows.
//
// It neither writes nor watches: a file that another program truncates while
// it is mapped makes reads of the lost part fault, which Go cannot recover
// from, so map only files that stay as they are. A [File] may be read by many
// goroutines at once; its bytes must not be used after Close, and must not be
// written to at all.
package mmap
