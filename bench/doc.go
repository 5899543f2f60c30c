// Package bench measures what the artifacts of a model cost on this machine: time
// to load, to the first token and between tokens, memory, and energy where the
// machine tells it, beside what the memory's bandwidth allows.
//
// Run starts a process for each artifact, which calls Serve: memory and load time
// are then of that artifact alone, and a crash ends one row. How an artifact is
// opened is the caller's to say, so the package links no runtime. All rounds of
// all artifacts take turns, in changing order, and figures are medians with
// intervals by order statistics.
//
// A Report is plain data: it is written as JSON, CSV, Markdown or text, and
// compared with another only where settings and machine are the same.
//
// Run is for one goroutine at a time: two would measure each other.
package bench
