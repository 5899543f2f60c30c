// Package tomlx plans folders for mlx-lm: config.json, weights in safetensors
// files, index, tokenizer and card, for every architecture of package arch. No
// weight is read and no file written; package convert does that by the plan, in
// the same pass that feeds other formats.
//
// A folder is what mlx_lm.convert (mlx-lm 0.32) makes of the same checkpoint:
// the same modules quantized, with the same words, scales and biases, under the
// same names. docs/formats/mlx.md lists the few differences and why.
//
// [Check] looks at any such folder, whoever wrote it.
//
// Functions are safe for concurrent use.
package tomlx
