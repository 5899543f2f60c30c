// Package bench measures what the artifacts of a model cost on this machine: time
// to load, to the first token and between tokens, memory, and energy where the
// machine tells it.
package bench
