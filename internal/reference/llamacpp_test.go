package reference_test

import (
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

//go:embed testdata/llamacpp_logits.py
var llamaCppScript string

// TestLlamaCpp compares tiny checkpoints with llama.cpp: logits of a prompt, then
// greedy tokens through the KV caches of both. Those with more than Llama has are
// compared in package convert, which writes better GGUF files than the script.
func TestLlamaCpp(t *testing.T) {
	const steps = 24
	lib := oracle.LlamaCpp(t)
	variants := without("mistral", "qwen3-yarn", "gemma2", "gemma3", "phi3", "phi4", "mixtral", "qwen3-moe")
	tokens := randomTokens(100, 512)
	stdin, err := json.Marshal(tokens)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{lib, strconv.Itoa(steps)}, writeAll(t, variants)...)
	out := oracle.Run(t, oracle.LlamaCppModule+llamaCppScript, stdin, args...)
	for _, v := range variants {
		t.Run(v.Name, func(t *testing.T) {
			m := load(t, v, nil)
			got := m.Forward(tokens)
			want, rest := rows(t, out, len(tokens), len(got[0]))
			compare(t, got, want)

			var wantIDs []int32
			for i := range steps {
				wantIDs = append(wantIDs, int32(binary.LittleEndian.Uint32(rest[4*i:])))
			}
			out = rest[4*steps:]
			gotIDs := []int32{argmax(got[len(got)-1])}
			for len(gotIDs) < steps {
				gotIDs = append(gotIDs, argmax(m.Forward(gotIDs[len(gotIDs)-1:])[0]))
			}
			if !slices.Equal(gotIDs, wantIDs) {
				t.Errorf("greedy ids are\n%v, want\n%v", gotIDs, wantIDs)
			}
		})
	}
}
