// Package plan is a conversion as data: every output file, every tensor in it,
// where its elements come from, how they are encoded, and at which offset they
// are written. A planner (toonnx, later togguf and tomlx) makes a Plan from a
// Spec and a recipe; convert writes it and decides nothing.
//
// Planning is pure: no weight is read, no file touched. A Plan is read-only
// once built and may be used by any number of goroutines.
package plan
