// Package checkpoint is where weights come from: a Hugging Face folder with
// safetensors files, or a GGUF file, opened as one kind of thing. Whatever the
// source, tensors have Hugging Face names, shapes and row order, the config is
// a config.json, and the tokenizer is a tokenizer.json.
//
// A LoRA adapter can be merged into the weights as they are read.
//
// Opening reads headers only; tensors are lazy. Checkpoints that another tool
// has quantized are refused by arch.Parse on [Checkpoint.Config]; pickle files
// are refused here, since loading one can run code. The package does not look
// at weight values: NaN weights are for the converter to find.
//
// A [Checkpoint] is safe for concurrent use until it is closed. Slices that it
// returns are shared: callers must not change them.
package checkpoint
