// Package ggml knows the block types of ggml and GGUF files: their numbers,
// block lengths and byte layouts, how to turn their blocks into float32, and
// how to make them, with and without importance of the columns.
//
// Sources: ggml/src/ggml-common.h (structs) and ggml-quants.c (arithmetic) of
// llama.cpp, and quants.py of the Python package gguf 0.19, whose results
// dequantization equals bit for bit. All arithmetic is float32, each product
// and sum rounded by itself. A row is cut into blocks of 32 or 256 consecutive
// elements; blocks never span rows.
//
// Blocks equal those of ggml_quantize_chunk of llama.cpp v0.5.0 as npm carries
// it for linux/amd64, byte by byte. That library is built for plain x86-64:
// none of its quantizers fuses a multiplication with an addition or sums in
// another order than the source says, and it rounds to whole numbers by adding
// 12582912, half to even, wrapping beyond ±2^22. Builds for other machines may
// fuse, and then differ from their own amd64 results as well.
//
// The i-quants but IQ4_NL, ternary and fp4 types can be named and measured but
// neither decoded nor made. Functions are safe for concurrent use and keep no
// buffer of the caller.
package ggml
