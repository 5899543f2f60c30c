// Package instructions checks by program whether a text follows instructions
// such as "no commas" or "at least three sections": the 25 verifiable kinds of
// IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for Large
// Language Models", arXiv 2311.07911), strictly and loosely as there.
//
// The verdicts are those of the Python code in lm-evaluation-harness 0.4.13
// (lm_eval/tasks/ifeval), which testdata/golden.jsonl records for some hundred
// responses. Known differences: the language of a text is told by another
// detector (see language.go), and a letter_frequency of a character that is no
// letter counts that character, where the Python code draws a random letter.
//
// All calls are pure and may be made concurrently.
package instructions
