package target_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/target"
)

// TestOptionTable compares keys and defaults with the answers of
// onnxruntime-gpu 1.31.1 itself (testdata/options.py).
func TestOptionTable(t *testing.T) {
	// The library takes these but does not list them; testdata/options.py with
	// KEY=VALUE shows that.
	unlisted := map[string]string{
		"cuda enable_cuda_graph": "0", "cuda enable_skip_layer_norm_strict_mode": "0",
		"cuda gpu_external_alloc": "0", "cuda gpu_external_free": "0", "cuda gpu_external_empty_cache": "0",
		"tensorrt trt_preview_features": "",
	}
	b, err := os.ReadFile("testdata/options-1.31.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("line %q", line)
		}
		want[k] = v
	}
	if len(want) < 60 {
		t.Fatalf("%d options recorded", len(want))
	}
	for k, v := range unlisted {
		want[k] = v
	}
	for _, name := range []string{"cuda", "tensorrt"} {
		tg, err := target.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range tg.Options {
			key := name + " " + o.Key
			v, ok := want[key]
			switch {
			case !ok:
				t.Errorf("%s: the library does not know it", key)
			case v != o.Default:
				t.Errorf("%s: default %q, the library says %q", key, o.Default, v)
			}
			delete(want, key)
			if o.Type != "address" {
				if err := tg.CheckOptions(map[string]string{o.Key: o.Default}); err != nil {
					t.Errorf("%s: its own default is refused: %v", key, err)
				}
			}
			if o.Doc == "" {
				t.Errorf("%s: no words", key)
			}
			for _, e := range o.Effects {
				if e.Text == "" || e.Source == "" {
					t.Errorf("%s: an effect without text or source", key)
				}
			}
		}
	}
	for key := range want {
		t.Errorf("%s: the library has it, the data do not", key)
	}
}

func TestCheckOptions(t *testing.T) {
	for _, c := range []struct{ ep, key, value, err string }{
		{"tensorrt", "trt_fp16_enable", "1", ""},
		{"tensorrt", "trt_fp16_enable", "true", ""},
		{"tensorrt", "trt_fp16_enable", "yes", `"yes" is not one of 0, 1, true, false`},
		{"TensorRT", "trt_fp16_enabled", "1", `did you mean "trt_fp16_enable"?`},
		{"tensorrt", "fp16_enable", "1", `did you mean "trt_fp16_enable"?`},
		{"tensorrt", "TRT_FP16_ENABLE", "1", `did you mean "trt_fp16_enable"?`},
		{"tensorrt", "trt_max_workspce_size", "1", `did you mean "trt_max_workspace_size"?`},
		{"tensorrt", "trt_max_workspace_size", "1073741824", ""},
		{"tensorrt", "trt_max_workspace_size", "1GB", "is not a number of bytes"},
		{"tensorrt", "trt_max_workspace_size", "-1", "is not a number of bytes"},
		{"tensorrt", "trt_builder_optimization_level", "5", ""},
		{"tensorrt", "trt_builder_optimization_level", "6", "outside 0 to 5"},
		{"tensorrt", "trt_builder_optimization_level", "fast", "not a whole number"},
		{"tensorrt", "trt_auxiliary_streams", "-1", ""},
		{"tensorrt", "trt_profile_min_shapes", "input_ids:1x1,past_key_values.0.key:1x8x0x128", ""},
		{"tensorrt", "trt_profile_min_shapes", "input_ids:1x-1", `"-1" of "input_ids:1x-1" is not an extent`},
		{"tensorrt", "trt_profile_min_shapes", "input_ids", "is not a shape"},
		{"tensorrt", "trt_profile_min_shapes", ":1x1", "is not a shape"},
		{"tensorrt", "trt_engine_cache_path", strings.Repeat("x", 1025), "at most 1024"},
		{"tensorrt", "trt_engine_cache_path", "a\x00b", "zero byte"},
		{"tensorrt", "user_compute_stream", "1", "cannot be given by hand"},
		{"tensorrt", "gpu_mem_limit", "1", "it belongs to CUDA"},
		{"tensorrt", "MLComputeUnits", "ALL", "it belongs to CoreML"},
		{"cuda", "arena_extend_strategy", "kSameAsRequested", ""},
		{"cuda", "arena_extend_strategy", "SameAsRequested", `did you mean "kSameAsRequested"?`},
		{"cuda", "cudnn_conv_algo_search", "default", `did you mean "DEFAULT"?`},
		{"cuda", "trt_int8_enable", "1", "it belongs to TensorRT"},
		{"coreml", "ModelFormat", "MLProgram", ""},
		{"coreml", "ModelFormat", "mlprogram", `did you mean "MLProgram"?`},
		{"coreml", "MLComputeUnits", "CPUAndNeuralEngine", ""},
		{"coreml", "RequireStaticInputShapes", "1", ""},
		{"coreml", "RequireStaticInputShapes", "true", "neither 0 nor 1"}, // silently off in the provider
		{"coreml", "ModelCacheDir", "x", `did you mean "ModelCacheDirectory"?`},
		{"cpu", "use_arena", "1", "CPU has no provider options"},
		{"npu", "x", "1", "unknown execution provider"},
	} {
		err := target.CheckOptions(c.ep, map[string]string{c.key: c.value})
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s %s=%s: %v", c.ep, c.key, c.value, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s %s=%s: error %v, want %q in it", c.ep, c.key, c.value, err, c.err)
		}
	}
	err := target.CheckOptions("trt", map[string]string{"bogus_one": "1", "trt_fp16_enable": "x", "bogus_two": "2", "device_id": "0"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems at once: %v", err)
	}
	if err := target.CheckOptions("trt", nil); err != nil {
		t.Errorf("no options: %v", err)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct{ target, key, value, want string }{
		{"tensorrt@10.3", "trt_int8_enable", "1", "the network becomes weakly typed"},
		{"tensorrt@10.3", "trt_int8_enable", "true", "the network becomes weakly typed"},
		{"tensorrt@10.3", "trt_int8_enable", "0", ""},
		{"tensorrt@10.3", "trt_int8_enable", "False", ""},
		{"tensorrt@11.0", "trt_int8_enable", "1", "ignored: no effect"},
		{"tensorrt@11.4.1", "trt_fp16_enable", "1", "ignored: no effect"},
		{"tensorrt@10.3", "trt_dla_enable", "1", ""},
		{"tensorrt@10.8", "trt_dla_enable", "1", "ignored: no effect"},
		{"tensorrt@11.4.1", "trt_dla_enable", "1", ""},
		{"tensorrt@10.3", "trt_load_user_initializer", "1", "ignored: needs TensorRT 10.13"},
		{"tensorrt@10.13", "trt_load_user_initializer", "1", ""},
		{"tensorrt@10.3", "no_such_key", "1", ""},
	} {
		tg, err := target.Find(c.target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, n := range tg.Explain(map[string]string{c.key: c.value}) {
			got += n.Text
			if n.Ignored {
				got = "ignored: " + got
			}
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s=%s: %q, want %q", c.target, c.key, c.value, got, c.want)
		}
	}
}

// TestDocumentedOptions wants the CoreML keys to be those in the library's
// strings, which were looked up by hand: ONNX Runtime 1.32.0 for macOS.
func TestDocumentedOptions(t *testing.T) {
	tg, err := target.Find("coreml")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range tg.Options {
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	want := "[AllowLowPrecisionAccumulationOnGPU EnableOnSubgraphs MLComputeUnits ModelCacheDirectory ModelFormat ProfileComputePlan RequireStaticInputShapes SpecializationStrategy]"
	if got := fmt.Sprint(keys); got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
}

// FuzzCheckOptions wants no panic and no slow answer, whatever is typed.
func FuzzCheckOptions(f *testing.F) {
	f.Add("tensorrt", "trt_profile_min_shapes", "a:1x2,b:3")
	f.Add("coreml", "ModelFormat", "MLProgramm")
	f.Add("cuda@1", "é\x80", "\x00")
	f.Fuzz(func(_ *testing.T, ep, key, value string) {
		_ = target.CheckOptions(ep, map[string]string{key: value})
	})
}
