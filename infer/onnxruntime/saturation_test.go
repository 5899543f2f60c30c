package onnxruntime

import (
	"runtime"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// TestSaturates compares the trial with what the CPU's features say: on x86
// products are wrong exactly where there is no instruction that adds them in 32
// bits.
func TestSaturates(t *testing.T) {
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	start := time.Now()
	got, err := saturates(t.Context(), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("saturates: %v, found in %v", got, time.Since(start))
	if want := runtime.GOARCH == "amd64" && !hardware.DetectFeatures().HasInt8Dot(); got != want {
		t.Errorf("products saturate: %v; the CPU's features (%s) say %v", got, hardware.DetectFeatures(), want)
	}

	if wrong, err := saturates(t.Context(), env, map[string]string{configExactProducts: "1"}); wrong || err != nil {
		t.Errorf("with %s products saturate: %v, %v", configExactProducts, wrong, err)
	}
}
