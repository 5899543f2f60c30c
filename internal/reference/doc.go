// Package reference is a plain forward pass of every [arch.Spec], written to
// be read: the truth that ONNX graphs and other runtimes are compared with.
//
// Activations, weights and the KV cache are float32; dot products, norms and
// softmax accumulate in float64, so that its own error stays far below that of
// any runtime it judges. It follows the modeling files of transformers 4.57 and
// 5.24.
//
// It is for tests: it knows no file format, holds all weights as float32 and
// is as slow as plain loops are (about 2 G multiply-adds per second and core).
// A [Model] holds the state of one sequence and is not safe for concurrent
// use; it uses all cores by itself.
package reference
