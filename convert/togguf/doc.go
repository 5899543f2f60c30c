// Package togguf plans GGUF files: the keys, the tensors with their types,
// shapes and order of rows, and where everything lies, for every architecture
// of package arch. No weight is read and no file written; package convert does
// that by the plan, in the same pass that feeds other formats.
//
// Files are what llama.cpp v0.5.0 makes of the same checkpoint: keys and names
// those of its convert_hf_to_gguf.py (conversion/*.py, gguf-py), types those of
// llama_model_quantize (src/llama-quant.cpp), so that the bytes of each tensor
// equal its. docs/formats/gguf.md lists the few differences and why.
//
// Importance matrices are read and written in llama.cpp's format
// (tools/imatrix), as GGUF and as the older .dat.
//
// Functions are safe for concurrent use.
package togguf
