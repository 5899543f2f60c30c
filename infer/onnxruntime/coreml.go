package onnxruntime

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// coreml is Apple's GPU and Neural Engine. It wants graphs of fixed shapes,
// whose cache the host keeps (see the package comment), and keeps no compressed
// weights: those of Q/DQ files are folded to floats at load, and CoreML has its
// own copy of each graph.
//
// Options that differ from ONNX Runtime's own defaults:
//   - ModelFormat MLProgram: the older NeuralNetwork format cannot multiply two
//     computed matrices, that is, do attention;
//   - ModelCacheDirectory: else every start converts and compiles anew. The
//     library does not notice changed weights, so each artifact has a folder of
//     its own.
//
// RequireStaticInputShapes stays off: it gave wrong float16 results on macOS 15
// (microsoft/onnxruntime issue 32569), and the graphs are static anyway.
// Not run on the device.
var coreml = provider{
	name: "coreml", ep: "CoreMLExecutionProvider", next: "cpu",
	chunk: 64, overhead: 256 << 20, compiles: "*",
	free: hostMemory,
	// As float16, once for ONNX Runtime and once for CoreML.
	weights: func(g *graph) int64 { return 2 * 2 * g.bytes.elements },
	configure: func(o *ort.SessionOptions, r *request) error {
		if open := r.graph.openInputs(); len(open) > 0 {
			return fmt.Errorf("CoreML needs inputs of fixed shapes, and %q has an open one: convert with --target-eps CoreML", open[0])
		}
		o.IntraOpThreads = r.open.Threads
		o.Config["session.disable_quant_qdq"] = "1"
		options := map[string]string{"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}
		if r.dir != "" {
			options["ModelCacheDirectory"] = r.dir
		}
		o.Providers = []ort.Provider{{Name: "CoreMLExecutionProvider", Options: merged(options, r.options)}}
		return nil
	},
}
