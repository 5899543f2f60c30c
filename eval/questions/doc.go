// Package questions holds a fixed set of 120 questions with their prompts and
// judges: 20 each of knowledge (MMLU), reasoning (ARC-Challenge), mathematics
// (GSM8K), code (HumanEval), common sense (OpenBookQA and WinoGrande, ten
// each) and instruction following (IFEval). Prompts and metrics follow the
// tasks of lm-evaluation-harness 0.4.13, named in [Question.Task]; where they
// differ, docs/questions.md says so.
//
// The package asks no model. A runner takes the log-likelihoods of
// [Question.Requests] or a text for [Question.Generation], and gives what came
// to one of the judges. Model-written code is run elsewhere (package runcode).
//
// The rows in data/ are stored as in their sources, with the licences named in
// data/README.md; _generate picks them. Nothing here holds state: all calls
// may be made concurrently, and slices that come back belong to the caller.
package questions
