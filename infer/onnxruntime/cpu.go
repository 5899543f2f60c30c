package onnxruntime

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// cpu is the CPU execution provider. Settings measured with ONNX Runtime 1.32
// on SmolLM2-135M, two AVX2 cores (see docs/run-onnx.md):
//   - spinning threads stay on (the default): decode loses 7 to 20 % without;
//   - parallel prepacking loads int4 in 0.19 s instead of 0.30 s;
//   - the arena stays on: without it a prefill's peak is 10 to 15 % higher;
//   - no memory patterns: a pattern is kept for every length of the mask, that
//     is, one for every token generated.
//
// It runs the graphs of other targets too, slowly: float16 is computed in
// float32, Q/DQ pairs are fused into its own 8-bit operators.
var cpu = provider{
	name: "cpu", ep: "CPUExecutionProvider", chunk: 512, rows: true, overhead: 96 << 20,
	free: hostMemory,
	// float16 weights of plain operators are widened, and the narrow copy
	// given back.
	weights: func(g *graph) int64 { return g.bytes.total() + g.bytes.half },
	configure: func(o *ort.SessionOptions, r *request) error {
		o.IntraOpThreads = r.open.Threads
		o.DisableMemPattern = true
		o.Config["session.prepack.enable_parallel"] = "1"
		// Weights in memory of their own, not in the arena, which rounds up.
		o.Config["session.use_device_allocator_for_initializers"] = "1"
		switch {
		case r.graph.halfSteps && foldedBytes(r.graph) < hostMemory(r.ctx, r.machine, nil):
			// Products of 8 bits exist for float32 activations alone: with
			// float16 ones all weights are widened at every token, 218 ms of
			// SmolLM2's; widened once at load, 20 ms. Activations are rounded
			// to 8 bits all the same.
			o.Config["session.disable_quant_qdq"] = "1"
		case r.graph.quantizes:
			wrong, err := saturates(r.ctx, r.env, nil)
			if err != nil {
				return fmt.Errorf("try products of 8-bit integers: %w", err)
			}
			if wrong {
				o.Config[configExactProducts] = "1"
			}
		}
		o.Initializers = r.graph.weights.values
		return nil
	},
}

// foldedBytes is the memory of a model whose weights are widened at load: as
// float16, float32 and packed float32, as far as they are held at once (8 bytes
// a weight measured), with as much again free for the cache.
func foldedBytes(g *graph) int64 { return 8*g.bytes.elements + 512<<20 }
