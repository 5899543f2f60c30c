//go:build noasm || !amd64

package matmulnbits

// fastKernels gives the best kernels this processor runs.
func fastKernels() kernels { return genericKernels() }
