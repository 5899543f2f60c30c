// Package tokenizer turns text into token ids and back exactly as Python
// `tokenizers` does, in pure Go.
//
// It reads Hugging Face tokenizer.json files (format version "1.0", as written
// by tokenizers 0.10 to 0.23; https://github.com/huggingface/tokenizers,
// tokenizers/src) with a BPE model, byte-level (GPT-2, Qwen, Llama 3, SmolLM)
// or SentencePiece style with byte fallback (Llama 2, Gemma), and builds the
// same tokenizers from the tokenizer.ggml.* keys of a GGUF file
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). A part of a
// tokenizer.json that is not honoured is a [tensor.UnsupportedError] that names
// it; nothing is skipped silently.
//
// What it does not do: WordPiece, Unigram and WordLevel models, BPE dropout,
// pairs of sequences, offsets, padding and truncation. It knows no chat
// template.
//
// A piece of text goes through these steps, one file each:
//
//	added tokens (added.go) -> normalizer (normalize.go) -> pre-tokenizers
//	(pretokenize.go, scan.go, regex.go) -> BPE (bpe.go, merge.go, cache.go) -> template
//	(tokenizer.go);   ids -> token strings -> decoders (decode.go)
//
// Text that is not valid UTF-8 is read as if each offending byte were U+FFFD,
// since a Python string cannot hold it.
//
// A [Tokenizer] is immutable after construction apart from a bounded cache of
// words that is safe for concurrent use, so one Tokenizer serves any number of
// goroutines. A [Decoder] belongs to one goroutine. The []byte given to [Parse]
// is not kept.
package tokenizer
