// Package fidelity measures how far one model's logits stray from another's on
// the same text: Kullback-Leibler divergence, agreement of the best tokens,
// perplexities and their ratio, the largest difference of a logit.
//
// It takes rows of logits one position at a time and keeps running sums in
// float64, so any length of text fits. It runs no model and reads no file.
// An [Accumulator] belongs to one goroutine; workers keep their own and
// [Accumulator.Merge] joins them. No slice is kept.
package fidelity
