// Package eval measures how good a model's artifacts are: perplexity by named
// definitions, divergence from a reference, and questions whose answers are
// checked by log-likelihood or by program.
//
// Run goes through the artifacts of a model, keeps a journal so that an
// interrupted run can go on, and makes a [Report]. What loads a model is the
// caller's: Run is given functions that measure one artifact, which may do so in
// processes of their own. Ask puts questions to a model that is loaded in this
// process. docs/eval.md has the formulas.
//
// All functions are for one caller at a time; a Report is plain data.
package eval
