// Package tinymodel makes seeded checkpoints of two small layers, one for each
// architecture and option that this module converts, as Hugging Face folders
// or in memory. The weights are noise: what counts is that any two programs
// compute the same logits from them.
//
// Bytes depend on the variant alone, not on the machine, so tests may hold
// their hashes. It is for tests only. All functions are safe for concurrent
// use.
package tinymodel
