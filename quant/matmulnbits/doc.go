// Package matmulnbits quantizes rows of weights into the blocks of ONNX
// Runtime's contrib operators MatMulNBits and GatherBlockQuantized.
//
// A matrix [N, K] becomes three tensors (operator schemas and the kernels of
// ONNX Runtime 1.32, contrib_ops/cpu/quantization/matmul_nbits.cc):
//
//	data   uint8 [N, nb, block*bits/8]  codes, packed along K, low bits first; nb = ceil(K/block)
//	scales float [N, nb]                float16 or float32
//	zeros  uint8 [N, ceil(nb*bits/8)]   codes packed along nb, rows start on a byte; absent when symmetric
//
// and a reader sees weight = (code - zero) * scale, with zero = 2^(bits-1)
// where none is stored. The last block of a row is padded when block does not
// divide K; the operators ignore the padding.
//
// Two methods fill the blocks. [RTN] gives the bytes of ONNX Runtime's own
// quantizer. [Search] tries many scales and zero points and keeps the pair with
// the least squared error, weighted by the importance of each input channel
// where that is known.
//
// The package plans nothing and writes no file. Every function is pure: it may
// be called concurrently on disjoint rows, keeps no buffer, and gives the same
// bytes on every machine and for every split of the rows.
package matmulnbits
