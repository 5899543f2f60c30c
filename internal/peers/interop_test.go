package main

import (
	_ "embed"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

//go:embed testdata/genai_greedy.py
var greedyScript string

// promptIDs suit every tokenizer here: they are text of none.
var promptIDs = []int32{1, 403, 407, 261, 378, 31, 7, 122, 301, 298, 350, 400}

// TestOursInGenAI converts tiny checkpoints and the real sample for the CPU and
// lets onnxruntime-genai run the folders: same greedy tokens as our session.
func TestOursInGenAI(t *testing.T) {
	var folders []string
	for _, v := range tinymodel.Variants() {
		dir := filepath.Join(t.TempDir(), v.Name)
		if err := tinymodel.Write(dir, v); err != nil {
			t.Fatal(err)
		}
		folders = append(folders, convertAll(t, dir, "int4", "int8", "int4-small")...)
	}
	if !testing.Short() {
		folders = append(folders, convertAll(t, oracle.SampleGGUF(t), "int4", "int8")...)
	}
	compareGreedy(t, folders)
}

// TestGenAIInOurs runs folders that onnxruntime-genai's builder wrote (0.18,
// from tiny checkpoints of internal/tinymodel; `peers fixtures` makes them
// anew) in both runtimes.
func TestGenAIInOurs(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("testdata", "genai", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no folders in testdata/genai: %v", err)
	}
	compareGreedy(t, folders)
}

// convertAll converts a checkpoint with CPU recipes and returns the folders.
func convertAll(t *testing.T, model string, recipes ...string) []string {
	t.Helper()
	ctx, out := t.Context(), t.TempDir()
	ck, err := checkpoint.Open(ctx, model, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, convert.Options{Output: out, NoBase: true, Targets: []convert.Target{{Name: "cpu", Recipes: recipes}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	if err := job.WriteMetadata(ctx); err != nil {
		t.Fatal(err)
	}
	if err := job.Publish(); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, a := range job.Artifacts {
		dirs = append(dirs, filepath.Join(out, filepath.FromSlash(a.Dir)))
	}
	return dirs
}

// compareGreedy runs every folder in both runtimes.
func compareGreedy(t *testing.T, folders []string) {
	t.Helper()
	const n = 32
	stdin, err := json.Marshal(promptIDs)
	if err != nil {
		t.Fatal(err)
	}
	var theirs [][]int32
	out := oracle.Run(t, greedyScript, stdin, append([]string{strconv.Itoa(n)}, absolute(t, folders)...)...)
	if err := json.Unmarshal(out, &theirs); err != nil || len(theirs) != len(folders) {
		t.Fatalf("answers of onnxruntime-genai: %v\n%s", err, out)
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: oracle.Library(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	for i, dir := range folders {
		folder, err := modeldir.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := backend.Open(t.Context(), folder, infer.OpenOptions{Context: len(promptIDs) + n, Threads: 2})
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if len(theirs[i]) < n && !slices.Contains(folder.EndTokens(), theirs[i][max(0, len(theirs[i])-1)]) {
			t.Errorf("%s: onnxruntime-genai stops after %v without an end token", dir, theirs[i])
		}
		followGreedy(t, s, dir, theirs[i])
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// followGreedy feeds our session with the peer's tokens: each must be our best
// one, or within 1e-3 of it, where rounding decides.
func followGreedy(t *testing.T, s infer.Session, dir string, ids []int32) {
	t.Helper()
	next := promptIDs
	for i, id := range ids {
		logits, err := s.Eval(t.Context(), next)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		best := float32(math.Inf(-1))
		for _, x := range logits {
			best = max(best, x)
		}
		if got := logits[id]; !(best-got <= 1e-3) {
			t.Errorf("%s: token %d of onnxruntime-genai is %d, whose logit here is %g, the best one %g", dir, i, id, got, best)
			return
		}
		next = ids[i : i+1]
	}
}

func absolute(t *testing.T, paths []string) []string {
	t.Helper()
	out := make([]string, len(paths))
	for i, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = abs
	}
	return out
}
