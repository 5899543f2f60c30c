package onnxruntime

import (
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// cpu is the CPU execution provider. Settings measured with ONNX Runtime 1.32
// on SmolLM2-135M, two AVX2 cores (see docs/run-onnx.md):
//   - spinning threads stay on (the default): decode loses 7 to 20 % without;
//   - parallel prepacking loads int4 in 0.19 s instead of 0.30 s;
//   - the arena stays on: without it a prefill's peak is 10 to 15 % higher;
//   - no memory patterns: a pattern is kept for every length of the mask, that
//     is, one for every token generated.
var cpu = provider{
	name: "cpu", ep: "CPUExecutionProvider", chunk: 512, overhead: 96 << 20,
	configure: func(o *ort.SessionOptions, open infer.OpenOptions) {
		o.IntraOpThreads = open.Threads
		o.DisableMemPattern = true
		o.Config["session.prepack.enable_parallel"] = "1"
		// Weights in memory of their own, not in the arena, which rounds up.
		o.Config["session.use_device_allocator_for_initializers"] = "1"
	},
}
