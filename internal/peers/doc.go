// Command peers measures this module beside its peers, onnxruntime-genai and
// llama.cpp, on one real model:
//
//	peers speed     prompt 512 + 128 tokens, paired rounds
//	peers quality   KL, top-1, perplexity and bits per weight of every recipe
//	peers convert   time and memory of a conversion
//	peers clean     removes what the others built
//	peers fixtures  lets genai's builder write the folders that tests here run
//
// `make bench-peers` and `make quality` run it; CI does not. It needs Linux, and
// Python with pip for the peers: an environment with torch is installed into
// the cache folder once (internal/oracle, bench-requirements.txt). Results go
// to docs/benchmarks as a table and as JSON.
//
// The model is SmolLM2-135M-Instruct, whose GGUF file is dequantized to
// Hugging Face folders of float32: plain, and put through a random permutation
// that leaves its function as it is, so that the blocks of the old
// quantization do not line up with new ones. `peers quality --sample stories`
// compares our recipes with rounding to nearest on stories260K instead, whose
// float32 weights are the trained ones.
package main
