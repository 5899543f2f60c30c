// Package mix chooses the bits of each matrix for a budget: the recipe that
// loses least among those that fit a number of bits per weight.
//
// [Measure] finds what each matrix costs when it alone is stored in 4 bits, as
// KL divergence of the model's output (package calibrate/layerwise), and how
// the error of its other forms compares, weighed by what the matrix multiplies.
// [Table.Recipe] then upgrades matrices, always the one that saves most
// divergence per byte, until the budget is spent. Divergences of single
// matrices add up nearly, since their errors are independent.
package mix
