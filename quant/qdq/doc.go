// Package qdq quantizes rows of weights into what the standard operator
// DequantizeLinear reads: signed symmetric integers and their scales, no zero
// points.
//
// A matrix [N, K] becomes two tensors (onnx/defs/quantization, DequantizeLinear
// of opset 21):
//
//	data   int8 or int4 [N, K]; int4 two a byte, the first element in the low bits
//	scales float [N] one a row, or [N, ceil(K/block)] one for each block along K
//
// and a reader sees weight = data · scale. TensorRT wants scales above zero
// (NvInfer.h, IDequantizeLayer), so nothing can be said by a scale's sign, and
// a block of zeros has a small scale, not none.
//
// A MatMul takes its weights as [K, N]. [Scatter] puts rows down as columns of
// such a matrix, so that no graph has to transpose weights.
//
// Every function is pure: it may be called concurrently on disjoint rows, keeps
// no buffer, and gives the same bytes on every machine and for every split of
// the rows.
package qdq
