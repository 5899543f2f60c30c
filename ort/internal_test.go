package ort

import (
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func TestCheckVersion(t *testing.T) {
	for _, tt := range []struct{ version, want string }{
		{"1.24.0", ""}, {"1.32.0", ""}, {"1.33.0-dev+abc", ""}, {"1.100", ""},
		{"1.23.2", "too old"}, {"0.9", "not known"}, {"2.0.0", "not known"},
		{"", "not understood"}, {"one", "not understood"}, {"1", "not understood"},
	} {
		err := checkVersion(tt.version)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.version, err, tt.want)
		}
	}
}

func TestTidy(t *testing.T) {
	for _, tt := range []struct{ message, want string }{
		{"plain words", "plain words"},
		{"/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() " +
			"[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x.so with error: libcublasLt.so.13: cannot open\n",
			"Failed to load library /x.so with error: libcublasLt.so.13: cannot open"},
		{`Load failed: D:\a\_work\1\s\onnxruntime\core\graph.cc:12 bool f(int) x was false.`, "Load failed: bool f(int) x was false."},
	} {
		if got := tidy(tt.message); got != tt.want {
			t.Errorf("tidy(%q) = %q", tt.message, got)
		}
	}
}

func TestElementTypesHaveNames(t *testing.T) {
	for e := Undefined; e <= Int2; e++ {
		if e.String() == "" || strings.HasPrefix(e.String(), "element type") {
			t.Errorf("type %d is called %q", e, e)
		}
	}
	if Int2+1 != ElementType(len(elementTypes)) || ElementType(77).String() != "element type 77" {
		t.Error("names of types beyond the table")
	}
	if ErrorCode(99).String() != "error code 99" || CodeNotFound.String() != "not found" {
		t.Error("names of error codes")
	}
}

func TestSizeOf(t *testing.T) {
	for _, tt := range []struct {
		elem  ElementType
		shape []int64
		want  int
	}{
		{Float32, nil, 4}, {Int4, []int64{3}, 2}, {Uint2, []int64{5}, 2}, {Float32, []int64{0, 1 << 60}, 0},
		{Complex128, []int64{1 << 50}, 1 << 54}, {Bool, []int64{2, 3}, 6},
	} {
		if got, err := sizeOf(tt.elem, tt.shape); err != nil || got != tt.want {
			t.Errorf("%v %v: %d, %v", tt.elem, tt.shape, got, err)
		}
	}
}

// TestProviderCalls calls what adds each provider in a build that has none of
// them. The answer of the library's stub, of the right name, shows that the
// function's place and the arguments are those of its header.
func TestProviderCalls(t *testing.T) {
	lib, err := Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := lib.newOptions(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.release()
	options := map[string]string{"device_id": "0"}
	for _, c := range []struct {
		provider string
		options  map[string]string
		want     string
	}{
		{"CUDAExecutionProvider", options, "CUDA execution provider is not enabled in this build"},
		{"TensorrtExecutionProvider", options, "TensorRT execution provider is not enabled in this build"},
		{"CoreMLExecutionProvider", map[string]string{"ModelFormat": "MLProgram"}, "CoreML execution provider is not supported in this build"},
		{"NoneExecutionProvider", nil, "Unknown provider name"},
	} {
		err := b.add(Provider{Name: c.provider, Options: c.options})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.provider, err, c.want)
		}
	}
}
