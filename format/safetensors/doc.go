// Package safetensors reads and writes the safetensors format: an 8-byte
// little-endian header length, a JSON header, and the tensor data. It also
// reads checkpoints split over several files, by their
// model.safetensors.index.json, and writes such checkpoints.
//
// Spec: https://github.com/huggingface/safetensors, README "Format", and its
// safetensors/src/tensor.rs (0.5), whose checks are made here too: offsets
// start at 0 and have neither holes nor overlaps, a header has at most 100 MB,
// names occur once.
//
// Opening reads headers only; elements stay in the file until asked for, and
// tensors may be unaligned. The package knows no model. Element types that
// package tensor does not convert (fp8, fp4, complex) can be listed and copied
// as bytes, not read as float32.
//
// A [Reader] and a [Set] are safe for concurrent use. A [Writer] and a
// [ShardedWriter] belong to one goroutine; [Layout] tells the offsets to those
// who write tensors in parallel. No function keeps a caller's buffer.
package safetensors
