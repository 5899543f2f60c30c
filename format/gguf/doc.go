// Package gguf reads and writes the GGUF container, versions 2 and 3, little
// endian: typed keys and values, tensor infos, aligned tensor data.
//
// Spec: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; limits and
// checks follow ggml/src/gguf.cpp, layout the Python package gguf 0.19. Block
// types are quant/ggml's. The package knows no language model: what the keys
// mean is the reader's business.
//
// Opening walks the header once and keeps where each value lies; values and
// elements are read when asked for. Version 1 and big-endian files are refused
// as unsupported.
//
// A [Reader] and its values are safe for concurrent use. A [Writer] belongs to
// one goroutine. No function keeps a caller's buffer.
package gguf
