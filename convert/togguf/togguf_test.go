package togguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestParseName has what gguf-py 0.5.0's Metadata.get_model_id_components gives.
func TestParseName(t *testing.T) {
	for _, c := range []struct {
		id         string
		parameters int64
		want       modelName
	}{
		{"HuggingFaceTB/SmolLM2-135M-Instruct", 134515008, modelName{"SmolLM2-135M-Instruct", "HuggingFaceTB", "SmolLM2", "Instruct", "", "135M"}},
		{"Qwen/Qwen2.5-Coder-1.5B-Instruct", 1543714304, modelName{"Qwen2.5-Coder-1.5B-Instruct", "Qwen", "Qwen2.5-Coder", "Instruct", "", "1.5B"}},
		{"meta-llama/Llama-2-7b-chat-hf", 6738415616, modelName{"Llama-2-7b-chat-hf", "meta-llama", "Llama-2", "chat-hf", "", "7B"}},
		{"mistralai/Mistral-7B-Instruct-v0.2", 7241732096, modelName{"Mistral-7B-Instruct-v0.2", "mistralai", "Mistral", "Instruct", "v0.2", "7B"}},
		{"Qwen/Qwen3-8B", 8190735360, modelName{"Qwen3-8B", "Qwen", "Qwen3", "", "", "8B"}},
		{"microsoft/Phi-3-mini-128k-instruct", 3821079552, modelName{"Phi-3-mini-128k-instruct", "microsoft", "Phi-3", "128k-instruct", "", "mini"}},
		{"bigscience/bloom-7b1-petals", 7069016064, modelName{"bloom-7b1-petals", "bigscience", "bloom", "petals", "", "7.1B"}},
		{"stories260K", 260032, modelName{"stories260K", "", "", "", "", ""}},
		{"a name in words", 1, modelName{full: "a name in words"}},
		{"", 1, modelName{}},
		{"./x-v1", 1, modelName{"x-v1", "", "x", "", "v1", ""}},
		{"---", 1, modelName{full: "---"}},
	} {
		if got := parseName(c.id, c.parameters); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.id, got, c.want)
		}
	}
	for in, want := range map[string]string{"mistral-7b-v0.1": "Mistral 7b v0.1", "SmolLM2-135M": "SmolLM2 135M", "it's-x2y": "It'S X2Y"} {
		if got := title(in); got != want {
			t.Errorf("title of %q is %q, want %q", in, got, want)
		}
	}
	for n, want := range map[int64]string{134515008: "135M", 1543714304: "1.5B", 260032: "260K", 9_960_000: "10M", 8_190_735_360: "8.2B", 999: "1.0K"} {
		if got := sizeLabel(n); got != want {
			t.Errorf("size of %d is %s, want %s", n, got, want)
		}
	}
}

func TestCard(t *testing.T) {
	c := parseCard("---\r\nlicense: apache-2.0 # free\ntags:\n- a\n- 'b c'\n -  \"d\"\nlanguage: [en, 'fr',]\nempty:\nnested:\n  x: y\nmodels:\n- name: x\n  value: 1\ntext: |\n  lines\n  of text\nbase_model: org/name\n---\n# Title\nlicense: mit\n")
	want := card{"license": {"apache-2.0"}, "tags": {"a", "b c", "d"}, "language": {"en", "fr"}, "base_model": {"org/name"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("card is %v, want %v", c, want)
	}
	for _, none := range []string{"", "# Title", "---\nlicense: mit\n", "----\n---"} {
		if c := parseCard(none); c != nil {
			t.Errorf("%q has the card %v", none, c)
		}
	}
}

func TestStem(t *testing.T) {
	for in, want := range map[string]string{
		"Qwen/Qwen3-8B": "Qwen3-8B", "SmolLM2-135M-Instruct.Q4_1": "SmolLM2-135M-Instruct", "m-Q4_K_M": "m", "x-bf16": "x", "x-Q8_0-00001-of-00004": "x", "y-00002-of-00004": "y", "m:1?": "m_1_",
		"": "model", "..": "model", "Q4_0": "Q4_0",
	} {
		if got := Stem(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestParseOverride(t *testing.T) {
	o, err := ParseOverride(`blk\.[0-3]\.ffn_down=q6_k`)
	if err != nil || o.Type != ggml.Q6_K || !o.Pattern.MatchString("blk.2.ffn_down.weight") || o.Pattern.MatchString("blk.4.ffn_down.weight") {
		t.Errorf("override is %v, %v", o, err)
	}
	for _, bad := range []string{"", "=q4_0", "attn_v", "attn_v=", "attn_v=q9_9", "attn_v=iq2_xxs", "(=q4_0"} {
		if _, err := ParseOverride(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := ParseFileType("IQ2_XXS"); err == nil {
		t.Error("a file type that is not written is taken")
	}
	if ft, err := ParseFileType(" q4_k_m"); err != nil || ft != Q4_K_M {
		t.Errorf("q4_k_m is %v, %v", ft, err)
	}
}

// TestRopeFactors has Llama 3.1's factors as the 0.5.0 converter gives them.
func TestRopeFactors(t *testing.T) {
	r := arch.RoPE{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	got := ropeFactors(r, 128)
	scaled := r.InvFreq(128)
	r.Type = "default"
	for i, f := range r.InvFreq(128) {
		if d := math.Abs(float64(f)/float64(got[i])/float64(scaled[i]) - 1); d > 1e-6 {
			t.Errorf("factor %d is %v: frequency %v becomes %v, want %v", i, got[i], f, f/got[i], scaled[i])
		}
	}
	if got[0] != 1 || got[63] != 8 {
		t.Errorf("ends are %v and %v, want 1 and 8", got[0], got[63])
	}
}

// dat is an importance matrix in the older form.
func dat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(p)))
		case string:
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), p...)
		case []float32:
			b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
			for _, v := range p {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
	}
	return b
}

func readImatrix(b []byte) (*Imatrix, error) { return ReadImatrix(bytes.NewReader(b), int64(len(b))) }

func TestImatrixDat(t *testing.T) {
	m, err := readImatrix(dat(2, "blk.0.attn_q.weight", 4, []float32{4, 8}, "b", 0, []float32{3}, 7, "wiki.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.of("blk.0.attn_q.weight"); !reflect.DeepEqual(got, []float32{1, 2}) {
		t.Errorf("importance is %v, want 1 and 2", got)
	}
	if got := m.of("b"); !reflect.DeepEqual(got, []float32{3}) || m.of("c") != nil {
		t.Errorf("importance is %v, want 3", got)
	}
	if m.Chunks != 7 || !reflect.DeepEqual(m.Datasets, []string{"wiki.txt"}) {
		t.Errorf("%d chunks of %q", m.Chunks, m.Datasets)
	}
	inf := float32(math.Inf(1))
	for name, b := range map[string][]byte{
		"nothing": nil, "no entries": dat(0), "negative": dat(-1), "many": dat(1 << 30), "cut": dat(1, "a", 1, []float32{1, 2})[:15],
		"twice": dat(2, "a", 1, []float32{1}, "a", 1, []float32{1}), "no name": dat(1, "", 1, []float32{1}), "no sums": dat(1, "a", 1, []float32{}),
		"infinite": dat(1, "a", 1, []float32{inf}), "below zero": dat(1, "a", 1, []float32{-1}), "text": []byte("a text, not numbers"),
	} {
		var format *tensor.FormatError
		if _, err := readImatrix(b); !errors.As(err, &format) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestImatrixRoundTrip(t *testing.T) {
	m := &Imatrix{Datasets: []string{"a", "b"}, Chunks: 3, ChunkSize: 512, Entries: map[string]Entry{
		"blk.0.ffn_up.weight": {[]float32{1, 0, 2.5}, 1536}, "blk.10.attn_v.weight": {[]float32{7}, 0},
	}}
	var b bytes.Buffer
	n, err := m.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	got, err := readImatrix(b.Bytes())
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	if w := got.of("blk.10.attn_v.weight"); w[0] != 1 {
		t.Errorf("a matrix without data has importance %v, want 1", w)
	}
	if _, err := OpenImatrix(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is no error")
	}
}

// TestImatrixOfOtherModel wants a matrix of another model refused.
func TestImatrixOfOtherModel(t *testing.T) {
	spec, err := arch.Parse([]byte(`{"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":128,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":8,"rms_norm_eps":1e-5,"max_position_embeddings":16}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"blk.0.attn_q.weight": "another model", "blk.9.attn_q.weight": "no matrix"} {
		m := &Imatrix{Entries: map[string]Entry{name: {make([]float32, 32), 1}}}
		if _, err := Build(spec, Options{Type: Q4_0, Importance: m, Config: []byte("{}")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one about %s", name, err, want)
		}
	}
	if _, err := Build(spec, Options{Type: Q4_0, Config: []byte("{}")}); err != nil {
		t.Errorf("without tokenizer: %v", err)
	}
}

func FuzzImatrix(f *testing.F) {
	f.Add(dat(2, "blk.0.attn_q.weight", 4, []float32{4, 8}, "b", 0, []float32{3}, 7, "wiki.txt"))
	var b bytes.Buffer
	m := &Imatrix{Datasets: []string{"a"}, Entries: map[string]Entry{"x": {[]float32{1, 2}, 3}}}
	if _, err := m.WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readImatrix(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := m.WriteTo(&out); err != nil {
			return // names that GGUF has no place for
		}
		again, err := readImatrix(out.Bytes())
		if err != nil {
			t.Fatalf("our own file: %v", err)
		}
		if len(again.Entries) != len(m.Entries) {
			t.Fatalf("%d entries came back as %d", len(m.Entries), len(again.Entries))
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("Qwen/Qwen2.5-7B", "---\nlicense: mit\ntags:\n- a\n---\n", int64(7e9))
	f.Add("bloom-7b1", "---\nx: [a, 'b\n---", int64(0))
	f.Fuzz(func(t *testing.T, id, readme string, n int64) {
		parseName(id, n)
		title(id)
		if Stem(id) == "" {
			t.Errorf("%q has no stem", id)
		}
		for k, v := range parseCard(readme) {
			if len(v) == 0 {
				t.Errorf("key %q without values", k)
			}
		}
	})
}
