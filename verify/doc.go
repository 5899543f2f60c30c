// Package verify gathers the evidence after a conversion: it loads each
// artifact in ONNX Runtime, runs it on a text, and compares its logits with
// those of the float32 graph of the same checkpoint. For artifacts whose
// activations are 16-bit floats it also measures the largest magnitude of
// every such tensor, in a float32 copy of the graph: the CPU provider computes
// them in float32 and would hide an overflow.
//
// Models are run in segments. Where two whole models do not fit in half of the
// free memory a segment is one layer, and hidden states pass between them.
//
// Run is for one caller at a time; it starts no goroutines of its own.
package verify
