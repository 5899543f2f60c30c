//go:build noasm || !amd64

package calibrate

// fastKernel gives the best kernel this processor runs.
func fastKernel() kernel { return matmulGeneric }
