package onnxruntime

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// attnModel is a two-layer decoder of plain attention, one head for one, in
// three forms over the same weights: growing without a mask (right one token at
// a time), or with a hosted cache and a mask of two or four dimensions.
type attnModel struct {
	rows     int // tokens a run takes; 0: any, with a growing cache
	past     int // rows of the cache
	maskRank int
	elem     onnx.ElemType // of cache and additive mask
	ids      onnx.ElemType
	all      bool // logits at every position
}

const attnContext = 48

func (m attnModel) graph(t *testing.T) (graph, data []byte) {
	t.Helper()
	g := &graphBuilder{Graph: onnx.NewGraph("attention"), rng: rand.New(rand.NewPCG(2, 2))}
	rows, past, total := onnx.Named("sequence_length"), onnx.Named("past_sequence_length"), onnx.Named("total_sequence_length")
	present := total
	if m.rows > 0 {
		rows, past, total = onnx.Fixed(int64(m.rows)), onnx.Fixed(int64(m.past)), onnx.Fixed(int64(m.past+m.rows))
		present = rows
	}
	one := onnx.Fixed(1)
	g.Input("input_ids", m.ids, one, rows)
	g.Input("position_ids", m.ids, one, rows)
	cast := func(x string, to onnx.ElemType) string {
		return g.std("Cast", []onnx.Attr{onnx.Int("to", int64(to))}, x)
	}
	h := g.std("Gather", nil, g.weight("embed", testVocab, testHidden), "input_ids")
	h = g.std("Add", nil, h, g.std("Gather", nil, g.weight("positions", attnContext, testHidden), "position_ids"))
	bias := ""
	switch m.maskRank {
	case 4:
		g.Input("attention_mask", m.elem, one, one, rows, total)
		bias = cast("attention_mask", onnx.F32)
	case 2:
		g.Input("attention_mask", m.ids, one, total)
		seen := g.std("Unsqueeze", nil, cast("attention_mask", onnx.F32), onnx.Const(g.Graph, "axes12", nil, int64(1), int64(2)))
		bias = g.std("Mul", nil, g.std("Sub", nil, seen, onnx.Const(g.Graph, "one", nil, float32(1))), onnx.Const(g.Graph, "big", nil, float32(30000)))
		causal := make([]float32, m.rows*(m.past+m.rows))
		for i := range m.rows {
			for j := i + 1; j < m.rows; j++ {
				causal[i*(m.past+m.rows)+m.past+j] = -30000
			}
		}
		bias = g.std("Add", nil, bias, onnx.Const(g.Graph, "causal", []int64{1, 1, int64(m.rows), int64(m.past + m.rows)}, causal...))
	}
	split := onnx.Const(g.Graph, "split", nil, int64(1), int64(-1), testKVHeads, testDim)
	merge := onnx.Const(g.Graph, "merge", nil, int64(1), int64(-1), testKVHeads*testDim)
	heads := func(x string) string {
		return g.std("Transpose", []onnx.Attr{onnx.Ints("perm", 0, 2, 1, 3)}, g.std("Reshape", nil, x, split))
	}
	for l := range testLayers {
		q := heads(g.std("MatMul", nil, h, g.weight(fmt.Sprintf("q%d", l), testHidden, testKVHeads*testDim)))
		var kv [2]string
		for i, kind := range []string{"key", "value"} {
			in := g.Input(fmt.Sprintf("past_key_values.%d.%s", l, kind), m.elem, one, onnx.Fixed(testKVHeads), past, onnx.Fixed(testDim))
			out := g.Output(fmt.Sprintf("present.%d.%s", l, kind), m.elem, one, onnx.Fixed(testKVHeads), present, onnx.Fixed(testDim))
			x := cast(heads(g.std("MatMul", nil, h, g.weight(fmt.Sprintf("%s%d", kind, l), testHidden, testKVHeads*testDim))), m.elem)
			joined := g.std("Concat", []onnx.Attr{onnx.Int("axis", 2)}, in, x)
			from := joined
			if m.rows > 0 {
				from = x
			}
			g.Node("", "Identity", "/out/"+out, []string{from}, []string{out})
			kv[i] = cast(joined, onnx.F32)
		}
		scores := g.std("MatMul", nil, q, g.std("Transpose", []onnx.Attr{onnx.Ints("perm", 0, 1, 3, 2)}, kv[0]))
		scores = g.std("Mul", nil, scores, onnx.Const(g.Graph, fmt.Sprintf("scale%d", l), nil, float32(0.25)))
		if bias != "" {
			scores = g.std("Add", nil, scores, bias)
		}
		y := g.std("MatMul", nil, g.std("Softmax", []onnx.Attr{onnx.Int("axis", -1)}, scores), kv[1])
		y = g.std("Reshape", nil, g.std("Transpose", []onnx.Attr{onnx.Ints("perm", 0, 2, 1, 3)}, y), merge)
		h = g.std("Add", nil, h, g.std("MatMul", nil, y, g.weight(fmt.Sprintf("o%d", l), testKVHeads*testDim, testHidden)))
	}
	outRows := rows
	if !m.all {
		outRows = one
		g.Node("", "Gather", lastPositionPrefix+"/hidden/Gather", []string{h, onnx.Const(g.Graph, "minus_one", []int64{1}, int64(-1))},
			[]string{"last"}, onnx.Int("axis", 1))
		h = "last"
	}
	g.Node("", "MatMul", "/head", []string{h, g.weight("head", testHidden, testVocab)}, []string{"logits"})
	g.Output("logits", onnx.F32, one, outRows, onnx.Fixed(testVocab))
	b, err := onnx.NewModel(g.Graph, onnx.Opset{Version: 21}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b, g.data
}

// attnFolder writes a decode graph and, where given, one for prompts.
func attnFolder(t *testing.T, decode attnModel, prefill *attnModel) *modeldir.Folder {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{}
	files[modeldir.ModelFile], files[modeldir.DataFile] = decode.graph(t)
	meta := modeldir.Metadata{SchemaVersion: modeldir.MetadataVersion, Architecture: modeldir.Architecture{MaxContext: attnContext}}
	if prefill != nil {
		files[modeldir.PrefillFile], _ = prefill.graph(t)
		meta.Target.Prefill = modeldir.PrefillFile
	}
	var err error
	if files[modeldir.MetadataFile], err = json.Marshal(meta); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := modeldir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func openFolder(t *testing.T, b *Backend, f *modeldir.Folder, o infer.OpenOptions) *session {
	t.Helper()
	o.NoFitCheck = true
	s, err := b.Open(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*session)
}

// TestHostedCache: graphs of fixed shapes, padded chunks and a cache the host
// keeps give what a growing cache gives one token at a time.
func TestHostedCache(t *testing.T) {
	b := newBackend(t)
	ids := sequence(attnContext - 2)
	reference := openFolder(t, b, attnFolder(t, attnModel{elem: onnx.F32, ids: onnx.I64}, nil), infer.OpenOptions{})
	var want [][]float32
	for _, id := range ids {
		want = append(want, eval(t, reference, []int32{id}))
	}
	if reference.cache.kind != growing {
		t.Fatalf("the reference's cache is %v", reference.cache.kind)
	}
	for _, c := range []struct {
		name      string
		rank      int
		elem, ids onnx.ElemType
		prefill   int
		tolerance float64
	}{
		{"additive mask", 4, onnx.F32, onnx.I64, 8, 2e-4},
		{"mask of 1 and 0", 2, onnx.F32, onnx.I64, 8, 2e-4},
		{"int32 ids, float16 cache", 4, onnx.F16, onnx.I32, 16, 0.02},
		{"int32 mask", 2, onnx.F32, onnx.I32, 5, 2e-4},
		{"decode alone", 4, onnx.F32, onnx.I64, 0, 2e-4},
	} {
		t.Run(c.name, func(t *testing.T) {
			decode := attnModel{rows: 1, past: attnContext, maskRank: c.rank, elem: c.elem, ids: c.ids}
			var prefill *attnModel
			if c.prefill > 0 {
				p := decode
				p.rows = c.prefill
				prefill = &p
			}
			folder := attnFolder(t, decode, prefill)
			s := openFolder(t, b, folder, infer.OpenOptions{})
			if s.cache.kind != hosted || (s.prefill != nil) != (prefill != nil) {
				t.Fatalf("cache %v, prefill graph %v", s.cache.kind, s.prefill != nil)
			}
			// Lengths that end within, at and behind a chunk, and short ones
			// that are decoded.
			for _, n := range []int{1, 3, 4, 5, 8, 9, 16, 21, len(ids)} {
				if err := s.Truncate(0); err != nil {
					t.Fatal(err)
				}
				near(t, fmt.Sprintf("prompt of %d", n), eval(t, s, ids[:n]), want[n-1], c.tolerance)
				for i := n; i < min(n+3, len(ids)); i++ {
					near(t, fmt.Sprintf("prompt of %d, then token %d", n, i), eval(t, s, ids[i:i+1]), want[i], c.tolerance)
				}
			}
			for _, keep := range []int{30, 7, 0} { // over rows of another sequence
				eval(t, s, slices.Repeat([]int32{9}, attnContext-s.Len()))
				if err := s.Truncate(min(keep, s.Len())); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(s.Tokens(), ids[:s.Len()]) {
					t.Fatalf("after Truncate: %v", s.Tokens())
				}
				near(t, fmt.Sprintf("kept %d", keep), eval(t, s, ids[keep:]), want[len(want)-1], c.tolerance)
			}
			all := openFolder(t, b, folder, infer.OpenOptions{AllLogits: true})
			err := all.EvalAll(t.Context(), ids, func(pos int, logits []float32) error {
				near(t, fmt.Sprintf("all logits, position %d", pos), logits, want[pos], c.tolerance)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.warm(t.Context()); err == nil && s.Len() != 0 {
				t.Errorf("%d tokens after the first run", s.Len())
			}
		})
	}
}

func TestHostedRejects(t *testing.T) {
	b := newBackend(t)
	decode := attnModel{rows: 1, past: attnContext, maskRank: 4, elem: onnx.F32, ids: onnx.I64}
	prefill := decode
	prefill.rows = 8
	shorter := prefill
	shorter.past = 40
	open := func(f *modeldir.Folder, o infer.OpenOptions) error {
		s, err := b.Open(t.Context(), f, o)
		if err == nil {
			s.Close()
		}
		return err
	}
	for _, c := range []struct {
		name   string
		folder *modeldir.Folder
		o      infer.OpenOptions
		want   string
	}{
		{"other cache", attnFolder(t, decode, &shorter), infer.OpenOptions{}, "do not fit together"},
		{"longer context", attnFolder(t, decode, &prefill), infer.OpenOptions{Context: attnContext + 1}, "beyond the model's"},
	} {
		if err := open(c.folder, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	f := attnFolder(t, decode, &prefill)
	f.Metadata.Target.Prefill = "../model.onnx"
	if err := open(f, infer.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "plain file name") {
		t.Errorf("a graph outside of the folder: %v", err)
	}
	f.Metadata.Target.Prefill = "none.onnx"
	if err := open(f, infer.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "none.onnx") {
		t.Errorf("a graph that is not there: %v", err)
	}
	// The cache's length bounds the context where the files say more.
	f = attnFolder(t, decode, nil)
	f.Metadata.Architecture.MaxContext = 4096
	if s := openFolder(t, b, f, infer.OpenOptions{}); s.Info().MaxContext != attnContext {
		t.Errorf("context %d, the cache holds %d", s.Info().MaxContext, attnContext)
	}
}
