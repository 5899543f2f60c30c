package ggml

// width is the number of groups searched side by side, one in each lane of a
// vector register. Every sum then runs over a group's elements in their order,
// as in ggml's scalar code, and Go and assembly give its bytes.
const width = 8

// maxGroup is the longest group: 16 or 32 elements share a scale.
const maxGroup = 32

// lanes is the state of [width] groups; element j of group i is at [j][i]. The
// assembly reads the fields' offsets from go_asm.h.
type lanes struct {
	x [maxGroup][width]float32 // elements
	w [maxGroup][width]float32 // their weights in the error
	p [maxGroup][width]float32 // w*x, of the searches that need it
	q [maxGroup][width]float32 // codes of the candidate at hand, as numbers

	// What a search found.
	scale [width]float32 // step of the codes
	least [width]float32 // minus the value of code 0, not negative; affine only
	inv   [width]float32 // the codes are those of inv*(x-base), rounded;
	base  [width]float32 // inv is 0 where all codes are 0
	sumW  [width]float32 // Σ w
}

// weighting says how an element counts in the error.
type weighting int

const (
	// weighMean: sqrt(mean x²) + |x| (Q4_K, Q5_K).
	weighMean weighting = iota
	// weighAbs: |x| (Q2_K).
	weighAbs
	// weighSquare: x² (Q3_K, Q6_K).
	weighSquare
	// weighImportance: w sqrt(sigma2 + x²), with w the importance of the
	// column.
	weighImportance
)

// affine is a search for a scale and a least value.
type affine struct {
	top float32 // largest code
	// steps are candidates for the number of steps between the extremes.
	steps []float32
	// mad measures the weighted absolute error instead of the squared one.
	mad bool
}

// symmetric is a search for a scale of codes -top to top-1.
type symmetric struct {
	top float32
	// steps are candidates for the code of the largest magnitude.
	steps []float32
}

// kernels are the loops over the elements. All arithmetic is float32, each
// product and sum rounded by itself, sums in the order of the elements.
type kernels struct {
	name string
	// finite reports whether no element is infinite or NaN.
	finite func(x []float32) bool
	// blocks makes the first blocks of t, one of 32 elements and without
	// importance, and returns how many; the next is left to plain code.
	blocks func(t Type, dst []byte, x []float32) int
	// spread lays the groups of x, n elements each, side by side.
	spread func(dst *[maxGroup][width]float32, x []float32, n int)
	// weigh fills w from x, and from w itself where it holds the importance.
	weigh func(l *lanes, n int, kind weighting, sigma2 float32)
	// affine and symmetric search, given x and w; refine is Q3_K's search
	// without importance.
	affine    func(l *lanes, n int, a *affine)
	symmetric func(l *lanes, n int, s *symmetric)
	refine    func(l *lanes)
	// divide gives the codes of (x+m)/d, multiply those of inv*(x-base), cut
	// to lo..hi, less lo. d, m, inv, base are those of each 16 elements.
	divide   func(codes *[256]byte, x *[256]float32, d, m *[16]float32, lo, hi int32)
	multiply func(codes *[256]byte, x *[256]float32, inv, base *[16]float32, lo, hi int32)
}
