package ort_test

import (
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// open loads the pinned library and makes an environment for the test.
func open(t testing.TB) *ort.Env {
	t.Helper()
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	return env
}

func session(t testing.TB, env *ort.Env, model []byte, o ort.SessionOptions) *ort.Session {
	t.Helper()
	s, err := env.NewSessionFromBytes(t.Context(), model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func tensor[T ort.Element](t testing.TB, lib *ort.Library, data []T, shape ...int64) *ort.Value {
	t.Helper()
	v, err := ort.NewTensor(lib, data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func TestRun(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	a := tensor(t, env.Library(), []float32{1, 2, 3, 4}, 1, 4)
	b := tensor(t, env.Library(), []float32{10, 20, 30, 40}, 1, 4)
	out := []ort.Named{{Name: "C"}}
	if err := s.Run(t.Context(), nil, []ort.Named{{"A", a}, {"B", b}}, out); err != nil {
		t.Fatal(err)
	}
	defer out[0].Value.Close()
	c, err := ort.Data[float32](out[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	if len(c) != 4 || c[0] != 11 || c[3] != 44 {
		t.Fatalf("A + B = %v", c)
	}
}
