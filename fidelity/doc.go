// Package fidelity measures how far one model's logits stray from another's on
// the same text: Kullback-Leibler divergence, agreement of the best tokens,
// perplexities and their ratio, the largest difference of a logit. It says how
// a text is cut into windows ([Definition]) and keeps a reference's logits in a
// file ([CreateLogits], [OpenLogits]).
//
// It takes rows of logits one position at a time and keeps running sums in
// float64, so any length of text fits. It runs no model. An [Accumulator], a
// [LogitsWriter] and a [Logits] belong to one goroutine; workers keep their
// own Accumulator and [Accumulator.Merge] joins them. No slice is kept.
package fidelity
