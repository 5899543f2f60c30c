// Package layerwise runs a checkpoint's float32 model through ONNX Runtime, one
// decoder layer at a time, whatever the model's size: a layer's weights are
// read (and, where asked, folded or put through a quantizer) as the layer is
// run, and only the hidden states of the tokens pass from layer to layer.
//
//   - [Observe] gathers the statistics of package calibrate over a text.
//   - [Sensitivity] measures what each matrix, quantized alone, does to the
//     model's output: KL divergence, matrix by matrix, in one pass.
//
// Graphs are those of convert/toonnx, in which the weights are inputs, so that
// nothing is written to disk and every kind of checkpoint serves. Figures are
// deterministic up to the last bits of the runtime's sums, which package
// calibrate rounds away.
package layerwise
