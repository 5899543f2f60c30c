package affine

// kernels are the loops over weights. They give the same bytes in Go and in
// assembly: sums are none, every step is one correctly rounded operation.
type kernels struct {
	name string
	// measure sets s.x to the weights rounded to o.Type, and s.low and s.high
	// to the extremes of each group. It reports whether all weights, before
	// rounding, are finite. len(x) is a multiple of the group and at most batch.
	measure func(s *scratch, x []float32, o Options) bool
	// pack sets s.words to the codes of s.x for s.scale and s.bias.
	pack func(s *scratch, groups int, o Options)
}

func genericKernels() kernels {
	return kernels{name: "generic", measure: measureGeneric, pack: packGeneric}
}
