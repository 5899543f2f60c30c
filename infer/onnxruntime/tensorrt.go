package onnxruntime

import (
	"fmt"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// tensorrt is NVIDIA's compiler of whole graphs; nodes it does not take go to
// CUDA. Building an engine takes minutes, so engines and the timings behind
// them are kept in the artifact's cache folder, which belongs to these weights,
// this card, this driver and this release of TensorRT: the library itself would
// not notice changed weights.
//
// An engine takes memory for the longest sequence it was built for, the scores
// of a whole chunk against a full cache in each head, so that a model's own limit
// of 131,072 tokens would cost GBs: 4096 unless more is asked for.
//
// All precision flags stay off: types and Q/DQ pairs of the graph rule (a
// "strongly typed" network). INT4 weights need that, and one flag alone would
// let TensorRT 10 compute the float parts of an int8 graph in float32.
//
// Not run on the device.
var tensorrt = provider{
	name: "tensorrt", ep: "TensorrtExecutionProvider", next: "cuda", with: "cuda",
	file: "onnxruntime_providers_tensorrt", memory: "Cuda", chunk: 256, context: 4096, overhead: 1 << 30, compiles: "*.engine",
	free: gpuMemory, weights: onDisk,
	configure: func(o *ort.SessionOptions, r *request) error {
		o.IntraOpThreads = r.open.Threads
		o.DisableMemPattern = true
		options := map[string]string{"device_id": "0"}
		if r.dir != "" {
			options["trt_engine_cache_enable"], options["trt_engine_cache_path"] = "1", r.dir
			options["trt_timing_cache_enable"], options["trt_timing_cache_path"] = "1", r.dir
		}
		if r.graph.bytes.total() >= protobufLimit {
			// TensorRT gets the graph as one protobuf message, which must stay
			// below 2 GB; this hands the weights over beside it.
			options["trt_load_user_initializer"] = "1"
		}
		p, err := r.profile()
		if err != nil {
			return err
		}
		if p.max != "" {
			options["trt_profile_min_shapes"], options["trt_profile_opt_shapes"], options["trt_profile_max_shapes"] = p.min, p.opt, p.max
		}
		rest := map[string]string{"device_id": "0"}
		if id, ok := r.options["device_id"]; ok {
			rest["device_id"] = id
		}
		o.Providers = []ort.Provider{
			{Name: "TensorrtExecutionProvider", Options: merged(options, r.options)},
			{Name: "CUDAExecutionProvider", Options: merged(cudaDefaults, rest)},
		}
		return nil
	},
}

// protobufLimit is the largest message protobuf can hold.
const protobufLimit = 1<<31 - 1

// shapeProfile is one optimization profile in the words of the TensorRT
// provider: "input_ids:1x1,past_key_values.0.key:1x3x0x64". Empty where all
// shapes are fixed.
type shapeProfile struct{ min, opt, max string }

// profile gives the range of every input of open shape. There is one profile
// for prefill and decode, as the provider (1.31) builds several but runs the
// first: its optimum is decode. An engine is built only if the shapes at each
// end fit together, so at the far end a whole chunk follows a full cache.
func (r *request) profile() (shapeProfile, error) {
	chunk := r.open.Chunk
	opt := max(min(r.context, 2048)/2, 1)
	ends := []struct{ tokens, past int }{{1, 0}, {1, opt}, {chunk, r.context}}
	var lists [3][]string
	for _, in := range r.graph.inputs {
		if _, fixed := in.Shape.Ints(); fixed {
			continue
		}
		role := r.graph.roles[in.Name]
		for i, e := range ends {
			dims := make([]string, len(in.Shape))
			for d, dim := range in.Shape {
				n := dim.Size
				if !dim.IsFixed() {
					var ok bool
					if n, ok = role.extent(d, e.tokens, e.past); !ok {
						return shapeProfile{}, fmt.Errorf("input %q has shape %v, whose dimension %d has no known range", in.Name, in.Shape, d)
					}
				}
				dims[d] = fmt.Sprint(n)
			}
			lists[i] = append(lists[i], in.Name+":"+strings.Join(dims, "x"))
		}
	}
	text := func(i int) string { return strings.Join(lists[i], ",") }
	return shapeProfile{text(0), text(1), text(2)}, nil
}
