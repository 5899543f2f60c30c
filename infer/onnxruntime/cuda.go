package onnxruntime

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// cuda is NVIDIA's cards through CUDA and cuBLAS. The cache lies in the card's
// memory; ids go in and one row of logits comes out.
//
// Options that differ from ONNX Runtime's own defaults:
//   - arena_extend_strategy kSameAsRequested: the arena would else take the
//     next power of two, up to twice the weights;
//   - session.enable_dq_matmulnbits_fusion: blocks of INT4 and INT8 weights
//     become MatMulNBits, as on the CPU, in place of being widened each step.
//
// Run on an H100: docs/benchmarks/cuda.md.
var cuda = provider{
	name: "cuda", ep: "CUDAExecutionProvider", next: "cpu",
	file: "onnxruntime_providers_cuda", memory: "Cuda", chunk: 1024, overhead: 768 << 20,
	free: gpuMemory, weights: onDisk,
	configure: func(o *ort.SessionOptions, r *request) error {
		options := merged(cudaDefaults, r.options)
		if open := r.graph.openInputs(); options["enable_cuda_graph"] == "1" && len(open) > 0 {
			if r.graphs == nil || r.graph != r.graphs.prefill {
				return fmt.Errorf("option enable_cuda_graph=1 needs inputs of fixed shapes, and %q changes with every token", open[0])
			}
			options["enable_cuda_graph"] = "0" // prompts are of any length
		}
		o.IntraOpThreads = r.open.Threads
		o.DisableMemPattern = true // of the few nodes on the CPU, see cpu.go
		o.Config["session.enable_dq_matmulnbits_fusion"] = "1"
		o.Providers = []ort.Provider{{Name: "CUDAExecutionProvider", Options: options}}
		return nil
	},
}

// cudaDefaults always has an entry: with options the library says which file
// it could not load, without any it only says that it could not.
var cudaDefaults = map[string]string{"device_id": "0", "arena_extend_strategy": "kSameAsRequested"}
