// Package samples carries a small real model, so that the programs and tests
// can convert and generate without a network: stories260K, a Llama of 260 000
// parameters trained on TinyStories, in the layout of a Hugging Face folder.
// samples/stories260K/README.md tells its origin and licence.
//
// The files are read-only data, shared by all callers.
package samples
