package reference_test

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// TestGreedy wants the ids of samples/stories260K/expected_greedy.json, made
// by a float64 numpy forward and equal to transformers' and llama2.c's text.
func TestGreedy(t *testing.T) {
	b, err := fs.ReadFile(samples.Stories260K(), "expected_greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		PromptIDs []int32 `json:"prompt_ids"`
		GreedyIDs []int32 `json:"greedy_ids"` // the prompt included
		Text      string  `json:"text"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	m := loadFS(t, samples.Stories260K())
	got := slices.Clone(want.PromptIDs)
	for next := got; len(got) < len(want.GreedyIDs); {
		logits := m.Forward(next)
		next = []int32{argmax(logits[len(logits)-1])}
		got = append(got, next[0])
	}
	if len(got) < 256 || !slices.Equal(got, want.GreedyIDs) {
		t.Fatalf("greedy ids differ:\n got %v\nwant %v", got, want.GreedyIDs)
	}
	if text := storiesTokenizer(t).Decode(got, true); text != want.Text {
		t.Errorf("greedy text is\n%s\nwant\n%s", text, want.Text)
	}
}

// TestPerplexity wants the reference numbers of shared/data/README.md: a
// float64 numpy forward, BOS first, every following position scored.
func TestPerplexity(t *testing.T) {
	for _, c := range []struct {
		file   string
		scored int
		nll    float64 // mean, nats
		ppl    float64
	}{
		{"tinystories_ids.txt", 1804, 1.266441, 3.5482},
		{"wikitext2_ids.txt", 8176, 4.685154, 108.327},
	} {
		t.Run(c.file, func(t *testing.T) {
			m := loadFS(t, samples.Stories260K())
			var nll float64
			var scored int
			for _, ids := range readIDs(t, "testdata/"+c.file) {
				m.Reset()
				for i, row := range m.Forward(ids[:len(ids)-1]) {
					nll += logSumExp(row) - float64(row[ids[i+1]])
					scored++
				}
			}
			mean := nll / float64(scored)
			if scored != c.scored || math.Abs(mean-c.nll) > 2e-6 || math.Abs(math.Exp(mean)-c.ppl) > 1e-3 {
				t.Fatalf("%d tokens, nll %.6f, perplexity %.4f; want %d, %.6f, %.4f", scored, mean, math.Exp(mean), c.scored, c.nll, c.ppl)
			}
		})
	}
}

// TestSampleIDs wants the ids that TestPerplexity scores to be those of the
// text, so that the figures hold from text to perplexity. The text is
// tinystories_sample.txt of stanford-cs336/assignment1-basics (CDLA-Sharing-1.0).
func TestSampleIDs(t *testing.T) {
	text, err := os.ReadFile("testdata/tinystories_sample.txt")
	if err != nil {
		t.Fatal(err)
	}
	tok := storiesTokenizer(t)
	var got [][]int32
	for story := range strings.SplitSeq(string(text), "<|endoftext|>") {
		if story = strings.TrimSpace(story); story != "" {
			got = append(got, tok.Encode(story, tokenizer.EncodeOptions{AddSpecial: true}))
		}
	}
	if diff := cmp.Diff(readIDs(t, "testdata/tinystories_ids.txt"), got); diff != "" {
		t.Errorf("ids (-fixture +tokenizer):\n%s", diff)
	}
}

func storiesTokenizer(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	b, err := fs.ReadFile(samples.Stories260K(), "tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func readIDs(t testing.TB, file string) [][]int32 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]int32
	s := bufio.NewScanner(f)
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		var ids []int32
		for _, w := range strings.Fields(s.Text()) {
			id, err := strconv.ParseInt(w, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, int32(id))
		}
		out = append(out, ids)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

func logSumExp(x []float32) float64 {
	top := float64(slices.Max(x))
	var sum float64
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
