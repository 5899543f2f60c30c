package target_test

import (
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/target"
)

func TestFind(t *testing.T) {
	for _, c := range []struct{ name, want, release, err string }{
		{"cpu", "cpu", "1.32.0", ""},
		{"CPUExecutionProvider", "cpu", "1.32.0", ""},
		{"TensorRT", "tensorrt", "10.3", ""},
		{"TensorrtExecutionProvider", "tensorrt", "10.3", ""},
		{"trt", "tensorrt", "10.3", ""},
		{"trt@10.15", "tensorrt", "10.15", ""},
		{"tensorrt@11.4.1", "tensorrt", "11.4.1", ""},
		{" GPU ", "cuda", "1.31.1", ""},
		{"CoreML", "coreml", "1.32.0", ""},
		{"mac", "coreml", "1.32.0", ""},
		{"tensort", "", "", `did you mean "tensorrt"?`},
		{"npu", "", "", "known are coreml, cpu, cuda, tensorrt"},
		{"", "", "", "unknown execution provider"},
		{"tensorrt@8.6", "", "", "older than 10.0"},
		{"tensorrt@newest", "", "", "is not a release"},
		{"tensorrt@", "", "", "is not a release"},
	} {
		got, err := target.Find(c.name)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Find(%q): error %v, want %q in it", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Find(%q): %v", c.name, err)
			continue
		}
		if got.Name != c.want || got.Release.Version != c.release {
			t.Errorf("Find(%q) = %s %s, want %s %s", c.name, got.Name, got.Release.Version, c.want, c.release)
		}
	}
}

func TestTakes(t *testing.T) {
	for _, c := range []struct {
		target, domain, op string
		opset              int64
		want               bool
	}{
		{"cpu", "", "Attention", 24, true},
		{"cpu", "com.microsoft", "MatMulNBits", 1, true},
		{"cuda", "com.microsoft", "GroupQueryAttention", 1, true},
		{"tensorrt", "com.microsoft", "MatMulNBits", 1, false},
		{"tensorrt@10.13", "", "Attention", 23, false},
		{"tensorrt@10.14", "", "Attention", 23, true},
		{"tensorrt@10.14", "", "RMSNormalization", 23, false},
		{"tensorrt@10.15.1", "", "RMSNormalization", 23, true},
		{"tensorrt@10.3", "", "ScatterND", 21, false},
		{"tensorrt@10.9", "", "ScatterND", 21, true},
		{"coreml", "", "Neg", 21, false},
		{"coreml", "", "DequantizeLinear", 21, false},
		{"coreml", "", "Where", 21, true},
		{"coreml", "", "NoSuchOperator", 21, false},
	} {
		tg, err := target.Find(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if got := tg.Takes(c.domain, c.op, c.opset); got != c.want {
			t.Errorf("%s takes %s/%s at opset %d: %v, want %v", tg.Label(), c.domain, c.op, c.opset, got, c.want)
		}
	}
}
