package calibrate

// kernel sets out, [rows][Tokens], to w·x with w [rows, len(x)/Tokens]
// row-major. Each sum runs in float32 over the columns in order, without fused
// multiply-add, a token in each vector lane, so that plain Go and assembly give
// the same bits.
type kernel func(out panel, w []float32, x panel)

func matmulGeneric(out panel, w []float32, x panel) {
	cols := len(x) / Tokens
	for r := range len(out) / Tokens {
		row := w[r*cols:][:cols]
		var sum [Tokens]float32
		for c, v := range row {
			xs := (*[Tokens]float32)(x[c*Tokens:])
			for t := range sum {
				sum[t] += float32(v * xs[t])
			}
		}
		copy(out[r*Tokens:], sum[:])
	}
}
