//go:build noasm || !amd64

package affine

// fastKernels gives the best kernels this processor runs.
func fastKernels() kernels { return genericKernels() }
