// Package toonnx plans ONNX artifacts: from a Spec and a recipe it makes the
// graph, lays out the data file, and says which checkpoint tensor becomes
// which bytes. It reads no weight and writes no file.
//
// Two dialects come from one builder. fused (fused.go) uses ONNX Runtime's
// com.microsoft operators, for CPU and CUDA; standard (standard.go) uses
// ai.onnx operators only, decomposed. Names of inputs, outputs and the cache
// contract are onnxruntime-genai's, so that its runtime loads these files.
//
// A builder is used by one goroutine.
package toonnx
