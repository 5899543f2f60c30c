// Package llamacpp runs GGUF files as sessions of package infer, through the
// llama.cpp library and this module's binding of it.
//
// The file is checked before the library sees it (see [Check]): llama.cpp ends
// the process where a file's sizes do not fit together. Tokens, templates,
// sampling and stop rules are this module's own; llama.cpp gets ids and gives
// logits.
//
// The cache is made for some thousand tokens and made again, twice as large,
// when a sequence outgrows it, so that a model's whole context need not be paid
// for at once. Models that keep a state in place of a cache, or only a window of
// it, cannot be taken back: their sequence is evaluated again from the start.
//
// Layers go to the library's devices (CUDA, Vulkan, Metal; other machines by
// RPC) by [Options.GPULayers]. llama.cpp ends the process where a device fails:
// who has other ways to go tries a device in a process of its own first, as
// internal/cli does. On an H100 the Vulkan build gave the processor's tokens; the
// CUDA build has no code for that card but for drivers newer than the one there,
// and its failing was caught so. Metal and RPC were not run on the device.
//
// A Backend may be used by many goroutines, a session by one at a time.
package llamacpp
