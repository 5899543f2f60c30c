package fidelity_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// logitsFile writes rows of random logits, peaked as a language model's are,
// with -Inf at the last id.
func logitsFile(t testing.TB, h fidelity.Header) ([]byte, [][]float32) {
	t.Helper()
	var buf bytes.Buffer
	w, err := fidelity.CreateLogits(&buf, h)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	var rows [][]float32
	for range fidelity.Rows(h.Definition.Cut(len(h.Tokens))) {
		row := make([]float32, h.Vocab)
		for i := range row {
			row[i] = 4 + 4*float32(r.NormFloat64())
		}
		row[r.IntN(h.Vocab-1)] = 20
		row[h.Vocab-1] = -inf
		if err := w.Add(row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), rows
}

func header(tokens int) fidelity.Header {
	h := fidelity.Header{Model: "m", Reference: "float32", Text: "t", Definition: fidelity.Definition{Kind: fidelity.Windows, Window: 8}, Vocab: 300}
	for i := range tokens {
		h.Tokens = append(h.Tokens, int32(i*7%300))
	}
	return h
}

func TestLogitsFile(t *testing.T) {
	h := header(20)
	file, rows := logitsFile(t, h)
	path := filepath.Join(t.TempDir(), "ref.logits")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := fidelity.OpenLogits(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := l.Header()
	if got.Model != "m" || got.Reference != "float32" || got.Text != "t" || got.Definition != h.Definition || got.Vocab != 300 || !slices.Equal(got.Tokens, h.Tokens) {
		t.Errorf("header %+v, want %+v", got, h)
	}
	if l.Rows() != len(rows) || len(rows) != 20 {
		t.Fatalf("%d rows, wrote %d", l.Rows(), len(rows))
	}
	var acc fidelity.Accumulator
	read := make([]float32, h.Vocab)
	for _, i := range []int{19, 0, 7, 7, 12} { // any order
		if err := l.Row(i, read); err != nil {
			t.Fatal(err)
		}
		if err := acc.Add(rows[i], read, fidelity.NoTarget); err != nil {
			t.Fatal(err)
		}
		if !math.IsInf(float64(read[299]), -1) {
			t.Errorf("-Inf is read as %g", read[299])
		}
	}
	// The step at distance d is 2·√(d·span)/65534: below 0.002 for 40 nats.
	if r := acc.Result(); r.KLMean > 1e-8 || r.Top1 != 1 || r.MaxDelta > 0.001 {
		t.Errorf("KL %g, top-1 %g, largest difference %g", r.KLMean, r.Top1, r.MaxDelta)
	}
}

// TestLogitsRows writes rows at the borders of what a row can be.
func TestLogitsRows(t *testing.T) {
	const big = math.MaxFloat32
	for _, c := range []struct {
		name string
		row  []float32
		want string // error of Add
	}{
		{"equal", []float32{3, 3, 3}, ""},
		{"one possible token", []float32{-inf, -2, -inf}, ""},
		{"denormal span", []float32{0, math.SmallestNonzeroFloat32, 0}, ""},
		{"wide", []float32{big, 0, -1}, ""},
		{"too wide", []float32{big, 0, -big}, "too far"},
		{"NaN", []float32{1, nan, 2}, "token 1 is NaN"},
		{"+Inf", []float32{1, 2, inf}, "token 2 is +Inf"},
		{"impossible", []float32{-inf, -inf, -inf}, "every token is -Inf"},
		{"short", []float32{1, 2}, "a row of 2, the vocabulary has 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var buf bytes.Buffer
			h := fidelity.Header{Vocab: 3, Tokens: []int32{0}, Definition: fidelity.Definition{Kind: fidelity.Windows, Window: 2}}
			w, err := fidelity.CreateLogits(&buf, h)
			if err != nil {
				t.Fatal(err)
			}
			err = w.Add(c.row)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if err := w.Close(); err == nil {
					t.Error("a file without its row was closed without an error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Add(c.row); err == nil {
				t.Error("a row too many was taken")
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			l, err := fidelity.NewLogits(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, 3)
			if err := l.Row(0, got); err != nil {
				t.Fatal(err)
			}
			for i, x := range c.row {
				if math.Abs(float64(got[i])-float64(x)) > 1e-4*math.Abs(float64(x))+1e-4*math.Abs(float64(c.row[0])) { // NaN where both are -Inf
					t.Errorf("row %v is read as %v", c.row, got)
				}
			}
		})
	}
}

// TestLogitsDamage changes a good file and wants to be told where.
func TestLogitsDamage(t *testing.T) {
	good, _ := logitsFile(t, header(20))
	headLen := int(binary.LittleEndian.Uint32(good[12:]))
	replace := func(old, new string) []byte {
		if len(old) != len(new) || !bytes.Contains(good, []byte(old)) {
			t.Fatalf("cannot replace %q by %q", old, new)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	flip := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "no logits file"},
		{"other file", []byte("GGUF0000000000000000"), "magic"},
		{"newer", flip(8), "version"},
		{"long header", flip(15), "header length"},
		{"no JSON", flip(16), "header"},
		{"cut", good[:len(good)-1], "ends 1 bytes early"},
		{"cut in the ids", good[:20+headLen], "tokens"},
		{"cut in the header", good[:40], "header length"},
		{"longer", append(slices.Clone(good), 0), "1 bytes follow"},
		{"another text", flip(16 + headLen), "hash"},
		{"id outside", flip(16 + headLen + 3), "outside the vocabulary"},
		{"fewer tokens", replace(`"tokens":20`, `"tokens":19`), "hash"},
		{"more tokens", replace(`"tokens":20`, `"tokens":99`), "outside the vocabulary"},
		{"far too many", replace(`"tokens":20,`, `"tokens":1e9`), "header"},
		{"another vocabulary", replace(`"vocab_size":300`, `"vocab_size":900`), "early"},
		{"no vocabulary", replace(`"vocab_size":300`, `"vocab_size":0  `), "vocabulary of 0"},
		{"another definition", replace(`"windows"`, `"window5"`), "choose"},
		{"no window", replace(`"window":8`, `"window":1`), "predicts nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := fidelity.NewLogits(bytes.NewReader(c.file), int64(len(c.file)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if fe := (*tensor.FormatError)(nil); !errors.As(err, &fe) {
				t.Errorf("%v is no FormatError", err)
			}
		})
	}
	for _, at := range []int{len(good) - 1, len(good) - 601, len(good) - 612} { // code, code, top
		b := flip(at)
		l, err := fidelity.NewLogits(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Row(19, make([]float32, 300)); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("byte %d: error %v", at, err)
		}
		if err := l.Row(0, make([]float32, 300)); err != nil {
			t.Errorf("byte %d: row 0: %v", at, err)
		}
	}
}

// FuzzLogits wants no panic from any file, and that what is read can be
// written and read again.
func FuzzLogits(f *testing.F) {
	small := fidelity.Header{Vocab: 5, Tokens: []int32{0, 1, 2, 3}, Definition: fidelity.Definition{Kind: fidelity.Windows, Window: 3}}
	good, _ := logitsFile(f, small)
	f.Add(good)
	small.Definition = fidelity.Definition{Kind: fidelity.Sliding, Window: 3, Stride: 1}
	sliding, _ := logitsFile(f, small)
	f.Add(sliding)
	f.Add(good[:30])
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := fidelity.NewLogits(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if l.Rows()*(12+2*l.Header().Vocab) > len(data) {
			t.Fatalf("%d rows of %d in %d bytes", l.Rows(), l.Header().Vocab, len(data))
		}
		var buf bytes.Buffer
		w, err := fidelity.CreateLogits(&buf, l.Header())
		if err != nil {
			return // names that JSON makes longer than the bound
		}
		row := make([]float32, l.Header().Vocab)
		for i := range l.Rows() {
			if err := l.Row(i, row); err != nil {
				return
			}
			if err := w.Add(row); err != nil {
				return // every token -Inf
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := fidelity.NewLogits(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.Header().Tokens, l.Header().Tokens) || again.Rows() != l.Rows() {
			t.Fatal("the file written again is another")
		}
	})
}

func TestCut(t *testing.T) {
	type w = fidelity.Window
	for _, c := range []struct {
		definition string
		n          int
		want       []w
	}{
		{"windows:4", 9, []w{{0, 4, 0, 4}, {4, 8, 4, 8}, {8, 9, 8, 9}}},
		{"windows:4", 0, nil},
		{"second-half:4", 9, []w{{0, 4, 2, 3}, {4, 8, 6, 7}}},
		{"second-half:4", 3, nil},
		{"sliding:4:2", 7, []w{{0, 4, 0, 3}, {2, 6, 3, 5}, {4, 7, 5, 6}}},
		{"sliding:4:4", 8, []w{{0, 4, 0, 3}, {4, 8, 4, 7}}},
		{"sliding:4:2", 1, nil},
		{"sliding:8:2", 5, []w{{0, 5, 0, 4}}},
		{"llama.cpp:4", 9, []w{{0, 4, 2, 3}, {4, 8, 6, 7}}},
		{"huggingface:4:2", 7, []w{{0, 4, 0, 3}, {2, 6, 3, 5}, {4, 7, 5, 6}}},
	} {
		d, err := fidelity.ParseDefinition(c.definition)
		if err != nil {
			t.Fatal(err)
		}
		if d.String() != c.definition {
			t.Errorf("%s is printed as %s", c.definition, d)
		}
		if got := d.Cut(c.n); !slices.Equal(got, c.want) {
			t.Errorf("%s of %d tokens: %v, want %v", c.definition, c.n, got, c.want)
		}
	}
	for _, bad := range []string{"", "windows", "windows:1", "windows:x", "windows:4:2", "sliding:4", "sliding:4:5", "sliding:4:0", "mean:4",
		"llama.cpp:4:2", "huggingface:4", "huggingface:4:5"} {
		if d, err := fidelity.ParseDefinition(bad); err == nil {
			t.Errorf("%q is read as %v", bad, d)
		}
	}
}

// TestSlidingScoresOnce wants every token but the first scored exactly once,
// with as much before it as the window leaves.
func TestSlidingScoresOnce(t *testing.T) {
	for _, c := range [][3]int{{100, 16, 4}, {97, 16, 15}, {16, 16, 1}, {17, 16, 16}, {50, 64, 7}} {
		n, window, stride := c[0], c[1], c[2]
		times := make([]int, n)
		for k, w := range (fidelity.Definition{Kind: fidelity.Sliding, Window: window, Stride: stride}).Cut(n) {
			for p := w.First; p < w.Last; p++ {
				times[p+1]++
				if seen := p + 1 - w.Start; k > 0 && seen < window-stride {
					t.Errorf("%v: token %d is scored after %d tokens", c, p+1, seen)
				}
			}
		}
		for i, k := range times {
			// Back to back windows cannot score their first token.
			if want := 1; i > 0 && k != want && !(stride == window && i%window == 0) {
				t.Errorf("%v: token %d is scored %d times", c, i, k)
			}
		}
	}
}

func BenchmarkLogitsRow(b *testing.B) {
	h := header(1)
	h.Vocab = 49152
	file, rows := logitsFile(b, h)
	l, err := fidelity.NewLogits(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(4 * h.Vocab))
	for b.Loop() {
		if err := l.Row(0, rows[0]); err != nil {
			b.Fatal(err)
		}
	}
}
