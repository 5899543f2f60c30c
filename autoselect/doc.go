// Package autoselect picks what runs a model on a machine: a format, a runtime
// and one of the artifacts at hand.
//
// [Probe] describes the machine. [Rank] is a plain function of that description
// and of the artifacts: it lists what can run, best first, and why each other
// cannot. The order is ONNX with TensorRT on NVIDIA, ONNX with CUDA, MLX on Apple
// silicon, ONNX with CoreML, GGUF, ONNX on the CPU. Where nothing but the CPU
// computes, GGUF and ONNX are tried against each other by [Trials], and the
// outcome is kept for the machine and the model. [First] opens the best and falls
// back to the next where one fails.
//
// Of several recipes the most exact is taken that fits the memory and can be
// expected to answer at [WantedRate]; else the smallest that fits.
//
// The package opens no library itself: what runs a model is the caller's to say.
// All functions are safe for concurrent use, [Trials] across processes too.
package autoselect
