package reference_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
)

var update = flag.Bool("update", false, "run transformers again and record its logits")

//go:embed testdata/transformers_logits.py
var transformersScript string

const recorded = "testdata/transformers_logits.json"

// TestTransformers compares with logits that transformers gave, recorded since
// it needs torch: of every tiny checkpoint whose forward pass has more than
// Llama's.
func TestTransformers(t *testing.T) {
	variants := without("llama2", "llama3", "llama3-tied", "llama-bias", "llama-linear", "smollm2", "qwen2", "qwen2-untied", "qwen3", "qwen3-text")
	tokens := randomTokens(100, 512)
	if *update {
		record(t, variants, tokens)
	}
	b, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Runs map[string]map[string]map[string][]float32
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		t.Run(v.Name, func(t *testing.T) {
			if len(file.Runs[v.Name]) == 0 {
				t.Fatal("nothing is recorded: go test -run Transformers -update")
			}
			for n, positions := range file.Runs[v.Name] {
				length, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				all := load(t, v, nil).Forward(tokens[:length])
				var got, want [][]float32
				for p, row := range positions {
					at, err := strconv.Atoi(p)
					if err != nil {
						t.Fatal(err)
					}
					got, want = append(got, all[at]), append(want, row)
				}
				compare(t, got, want)
			}
		})
	}
}

// record runs transformers in the environment of the peers.
func record(t *testing.T, variants []tinymodel.Variant, tokens []int32) {
	t.Helper()
	python, err := oracle.InstallBench(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := json.Marshal(tokens)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", transformersScript}, writeAll(t, variants)...)...)
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if err := os.WriteFile(recorded, out, 0o600); err != nil {
		t.Fatal(err)
	}
}
