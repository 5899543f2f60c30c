// Package affine quantizes rows of weights into the groups of MLX, in the mode
// that mlx calls "affine".
//
// A matrix [N, K] becomes three tensors (mlx 0.32, mlx/backend/cpu/quantized.cpp):
//
//	words  uint32 [N, K·bits/32]  codes, packed along K, low bits first
//	scales float  [N, K/group]    of the model's type: bfloat16, float16 or float32
//	biases float  [N, K/group]    of the same type
//
// and a reader sees weight = scale·code + bias. The group length divides K.
// Codes are one stream of bits from the row's start, whatever their width: code
// k takes the bits k·bits … (k+1)·bits-1, where bit i is bit i%8 of byte i/8.
// (mlx describes 3, 5 and 6 bits as codes packed into 3 or 5 bytes; that is the
// same stream.)
//
// Words, scales and biases are those of mx.quantize on the CPU. Its Metal
// kernel rounds halves away from zero, and may differ there.
//
// The package plans nothing and writes no file. Every function is pure: it may
// be called concurrently on disjoint rows, keeps no buffer, and gives the same
// bytes on every machine and for every split of the rows.
package affine
