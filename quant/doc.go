// Package quant holds what is true of every weight quantization scheme of this
// module: how many bits a weight takes, how long a block is, how many bytes a
// row needs, and how an error is measured. Planners and writers share these
// facts; the packages below (matmulnbits, ggml, affine) do the work.
//
// It quantizes nothing, reads no file and knows no model. All types are plain
// values; nothing here keeps state, so everything may be used concurrently.
package quant
