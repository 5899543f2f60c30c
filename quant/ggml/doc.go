// Package ggml knows the block types of ggml and GGUF files: their numbers,
// block lengths and byte layouts, how to turn their blocks into float32, and,
// for the simple types, how to make them.
//
// Sources: ggml/src/ggml-common.h (structs) and ggml-quants.c (arithmetic) of
// llama.cpp, and quants.py of the Python package gguf 0.19, whose results
// dequantization equals bit for bit. All arithmetic is float32, each product
// and sum rounded by itself. A row is cut into blocks of 32 or 256 consecutive
// elements; blocks never span rows.
//
// The i-quants (IQ1_S ... IQ4_XS), ternary and fp4 types can be named and
// measured but not decoded. Functions are safe for concurrent use and keep no
// buffer of the caller.
package ggml
