// Package mlxlm runs MLX folders, as mlx-lm and this module's converter write
// them, as sessions of package infer.
//
// MLX has no library that a program without cgo could open, so running it is the
// one thing here that needs Python: a small script (worker.py) around the mlx-lm
// package, in an environment of its own that [Setup] makes of pinned packages.
// Token ids go in and float32 logits come out, over pipes; tokenizer, template,
// sampling and stop rules are this module's own.
//
// Every message is framed: a letter, the length of what follows as 32 bits little
// endian, and so many bytes. Requests: 'E' evaluates ids (int32, behind one byte
// that says whether every position's logits are wanted), 'T' keeps the first n
// tokens of the cache. Answers: 'H' the hello with facts as JSON, 'L' logits, 'K'
// how many tokens the cache holds after 'T', 'X' an error's text.
//
// The worker ends when its input does, so it cannot outlive this process. One
// that dies is an error of the call it died in, and is started once more by the
// next call, which evaluates the sequence again; the second death is final.
//
// On Linux the packages compute on the CPU, which was run; with Metal it was not
// run on the device.
//
// A Backend may be used by many goroutines, a session by one at a time.
package mlxlm
