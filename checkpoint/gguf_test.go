package checkpoint_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// model is a GGUF file to be: keys and tensors of one layer, 2 heads and 1 key
// head of 4, width 8. Element i of every tensor is i.
type model struct {
	keys    map[string]any
	tensors []gguf.Decl
	values  map[string]tensor.Floats // where not 0, 1, 2, ...
}

func newModel(arch string, change func(m *model)) *model {
	f := func(name string, shape ...int) gguf.Decl {
		return gguf.Decl{Name: name, Type: ggml.F32, Shape: shape}
	}
	m := &model{
		keys: map[string]any{
			"general.architecture": arch, "general.type": "model", "general.file_type": uint32(0),
			arch + ".block_count": uint32(1), arch + ".context_length": uint32(64), arch + ".embedding_length": uint32(8),
			arch + ".feed_forward_length": uint32(12), arch + ".attention.head_count": uint32(2), arch + ".attention.head_count_kv": uint32(1),
			arch + ".attention.layer_norm_rms_epsilon": float32(1e-6), arch + ".rope.freq_base": float32(1e6),
			"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
			"tokenizer.ggml.tokens":     []string{"a", "b", "ab", "<|im_end|>", "<|endoftext|>", "<|eot|>"},
			"tokenizer.ggml.token_type": []int32{1, 1, 1, 3, 3, 3}, "tokenizer.ggml.merges": []string{"a b"},
			"tokenizer.ggml.eos_token_id": uint32(3), "tokenizer.ggml.eot_token_id": uint32(5), "tokenizer.ggml.bos_token_id": uint32(4),
		},
		tensors: []gguf.Decl{
			f("token_embd.weight", 6, 8), f("output_norm.weight", 8), f("output.weight", 6, 8),
			f("blk.0.attn_norm.weight", 8), f("blk.0.attn_q.weight", 8, 8), f("blk.0.attn_k.weight", 4, 8), f("blk.0.attn_v.weight", 4, 8),
			f("blk.0.attn_output.weight", 8, 8), f("blk.0.ffn_norm.weight", 8), f("blk.0.ffn_gate.weight", 12, 8),
			f("blk.0.ffn_up.weight", 12, 8), f("blk.0.ffn_down.weight", 8, 12),
		},
		values: map[string]tensor.Floats{},
	}
	if arch != "llama" {
		m.add("blk.0.attn_q.bias", 8)
		m.add("blk.0.attn_k.bias", 4)
		m.add("blk.0.attn_v.bias", 4)
	}
	if change != nil {
		change(m)
	}
	return m
}

func (m *model) add(name string, shape ...int) {
	m.tensors = append(m.tensors, gguf.Decl{Name: name, Type: ggml.F32, Shape: shape})
}

func (m *model) drop(name string) {
	for i, d := range m.tensors {
		if d.Name == name {
			m.tensors = append(m.tensors[:i:i], m.tensors[i+1:]...)
			return
		}
	}
}

// write writes the tensors chosen by keep, all where it is nil.
func (m *model) write(t testing.TB, path string, keep func(i int) bool) {
	t.Helper()
	var b bytes.Buffer
	w := gguf.NewWriter(&b, gguf.WriterOptions{})
	for k, v := range m.keys {
		w.Set(k, v)
	}
	var kept []gguf.Decl
	for i, d := range m.tensors {
		if keep == nil || keep(i) {
			kept = append(kept, d)
			w.Declare(d)
		}
	}
	err := w.WriteHeader()
	for _, d := range kept {
		n, _ := d.Shape.Elements()
		values := m.values[d.Name]
		for i := len(values); i < int(n); i++ {
			values = append(values, float32(i))
		}
		err = errors.Join(err, w.WriteTensor(d.Name, tensor.Stream{R: values, Elements: n, DType: tensor.F32}))
	}
	if err := errors.Join(err, w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func openModel(t *testing.T, m *model) (*checkpoint.Checkpoint, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	m.write(t, path, nil)
	c, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func read(t *testing.T, c *checkpoint.Checkpoint, name string) []float32 {
	t.Helper()
	w, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	out := make([]float32, w.Elements())
	if err := w.ReadFloat32(out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}

func firstColumn(t *testing.T, c *checkpoint.Checkpoint, name string, cols int) []int {
	var rows []int
	for i, v := range read(t, c, name) {
		if i%cols == 0 {
			rows = append(rows, int(v)/cols)
		}
	}
	return rows
}

func equal(a, b []int) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// TestGGUFRows: which stored row each Hugging Face row comes from. A head of 4
// rows 0 1 2 3 is stored as 0 2 1 3.
func TestGGUFRows(t *testing.T) {
	withBias := func(m *model) {
		m.add("blk.0.attn_q.bias", 8)
		m.add("blk.0.attn_k.bias", 4)
		m.add("blk.0.attn_v.bias", 4)
		m.add("blk.0.attn_output.bias", 8)
	}
	for _, tc := range []struct {
		arch   string
		change func(*model)
		q, k   []int
	}{
		{"llama", withBias, []int{0, 2, 1, 3, 4, 6, 5, 7}, []int{0, 2, 1, 3}},
		{"qwen2", nil, []int{0, 1, 2, 3, 4, 5, 6, 7}, []int{0, 1, 2, 3}},
	} {
		c, err := openModel(t, newModel(tc.arch, tc.change))
		if err != nil {
			t.Fatal(err)
		}
		spec, err := arch.Parse(c.Config())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(spec.Weights()); err != nil {
			t.Error(err)
		}
		const attn = "model.layers.0.self_attn."
		for _, part := range []struct {
			name string
			cols int
			want []int
		}{
			{"q_proj.weight", 8, tc.q}, {"k_proj.weight", 8, tc.k}, {"q_proj.bias", 1, tc.q}, {"k_proj.bias", 1, tc.k},
			{"v_proj.weight", 8, []int{0, 1, 2, 3}}, {"o_proj.weight", 8, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		} {
			if got := firstColumn(t, c, attn+part.name, part.cols); !equal(got, part.want) {
				t.Errorf("%s %s: rows %v, want %v", tc.arch, part.name, got, part.want)
			}
		}
	}
}

func TestGGUFConfig(t *testing.T) {
	llama31 := arch.RoPE{Theta: 1e6, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	divisors := func(r arch.RoPE, dim int) tensor.Floats {
		plain := r
		plain.Type = "default"
		a, b := plain.InvFreq(dim), r.InvFreq(dim)
		out := make(tensor.Floats, dim/2)
		for i := range out {
			out[i] = a[i] / b[i]
		}
		return out
	}
	wide := func(m *model) { // heads of 64, wide enough that llama3 scaling shows
		m.keys["llama.attention.key_length"], m.keys["llama.attention.value_length"] = uint32(64), uint32(64)
		for i, d := range m.tensors {
			switch d.Name {
			case "blk.0.attn_q.weight":
				m.tensors[i].Shape = tensor.Shape{128, 8}
			case "blk.0.attn_k.weight", "blk.0.attn_v.weight":
				m.tensors[i].Shape = tensor.Shape{64, 8}
			case "blk.0.attn_output.weight":
				m.tensors[i].Shape = tensor.Shape{8, 128}
			}
		}
		m.add("rope_freqs.weight", 32)
		m.values["rope_freqs.weight"] = divisors(llama31, 64)
	}
	gemma := func(m *model) {
		for _, part := range []string{"q", "k", "v"} {
			m.drop("blk.0.attn_" + part + ".bias")
		}
		for _, part := range []string{"post_attention", "post_ffw"} {
			m.add("blk.0."+part+"_norm.weight", 8)
		}
		if m.keys["general.architecture"] == "gemma3" {
			m.add("blk.0.attn_q_norm.weight", 4)
			m.add("blk.0.attn_k_norm.weight", 4)
		}
	}
	for _, tc := range []struct {
		name, arch string
		change     func(*model)
		check      func(s *arch.Spec) bool
	}{
		{"plain", "llama", nil, func(s *arch.Spec) bool {
			return s.Hidden == 8 && s.Intermediate == 12 && s.Layers == 1 && s.Heads == 2 && s.KVHeads == 1 && s.HeadDim == 4 && s.Vocab == 6 &&
				s.MaxContext == 64 && s.NormEps == 1e-6 && s.RoPE.Theta == 1e6 && !s.Tied && s.BOS == 4 && len(s.EOS) == 1 && s.EOS[0] == 3 && s.PAD == -1 && s.DType == "float32"
		}},
		{"tied", "llama", func(m *model) { m.drop("output.weight") }, func(s *arch.Spec) bool { return s.Tied }},
		{"all heads", "llama", func(m *model) {
			delete(m.keys, "llama.attention.head_count_kv")
			m.drop("blk.0.attn_k.weight")
			m.drop("blk.0.attn_v.weight")
			m.add("blk.0.attn_k.weight", 8, 8)
			m.add("blk.0.attn_v.weight", 8, 8)
		}, func(s *arch.Spec) bool { return s.KVHeads == 2 }},
		{"no theta", "llama", func(m *model) { delete(m.keys, "llama.rope.freq_base") }, func(s *arch.Spec) bool { return s.RoPE.Theta == 10000 }},
		{"bf16", "llama", func(m *model) { m.keys["general.file_type"] = uint32(32) }, func(s *arch.Spec) bool { return s.DType == "bfloat16" }},
		{"linear", "llama", func(m *model) {
			m.keys["llama.rope.scaling.type"], m.keys["llama.rope.scaling.factor"] = "linear", float32(4)
		}, func(s *arch.Spec) bool { return s.RoPE.Type == "linear" && s.RoPE.Factor == 4 }},
		{"linear of 2023", "llama", func(m *model) { m.keys["llama.rope.scale_linear"] = float32(4) }, func(s *arch.Spec) bool { return s.RoPE.Type == "linear" && s.RoPE.Factor == 4 }},
		{"no scaling", "llama", func(m *model) { m.keys["llama.rope.scaling.type"] = "none" }, func(s *arch.Spec) bool { return s.RoPE.Type == "default" }},
		{"llama3", "llama", wide, func(s *arch.Spec) bool { return cmp.Equal(s.RoPE, llama31) && s.HeadDim == 64 }},
		{"gemma3", "gemma3", func(m *model) { gemma(m); m.keys["gemma3.attention.sliding_window"] = uint32(16) }, func(s *arch.Spec) bool {
			return s.Architecture == "Gemma3ForCausalLM" && s.QKNorm && s.GELU && s.Window == 16 && s.Sliding[0] && s.LocalRoPE.Theta == 10000 && s.QueryScalar == 4 && s.LogitSoftcap == 0
		}},
		{"gemma3 keys", "gemma3", func(m *model) {
			gemma(m)
			m.keys["gemma3.attention.sliding_window"], m.keys["gemma3.attention.sliding_window_pattern"] = uint32(16), uint32(1)
			m.keys["gemma3.rope.freq_base_swa"], m.keys["gemma3.final_logit_softcapping"] = float32(5), float32(20)
		}, func(s *arch.Spec) bool { return !s.Sliding[0] && s.LocalRoPE.Theta == 5 && s.LogitSoftcap == 20 }},
		{"gemma3 without a window", "gemma3", gemma, func(s *arch.Spec) bool { return !s.Sliding[0] }},
		{"gemma2", "gemma2", gemma, func(s *arch.Spec) bool {
			return s.Architecture == "Gemma2ForCausalLM" && s.AttnSoftcap == 50 && s.LogitSoftcap == 30 && s.QueryScalar == 4
		}},
		{"phi3", "phi3", func(m *model) {
			for _, name := range []string{"attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"} {
				m.drop("blk.0." + name + ".weight")
				m.drop("blk.0." + name + ".bias")
			}
			m.add("blk.0.attn_qkv.weight", 16, 8)
			m.add("blk.0.ffn_up.weight", 24, 8)
			m.keys["phi3.rope.dimension_count"], m.keys["phi3.attention.sliding_window"] = uint32(2), uint32(16)
			m.keys["phi3.rope.scaling.attn_factor"], m.keys["phi3.rope.scaling.original_context_length"] = float32(1.5), uint32(32)
			for name, v := range map[string]float32{"rope_factors_long.weight": 3, "rope_factors_short.weight": 2} {
				m.add(name, 1)
				m.values[name] = tensor.Floats{v}
			}
		}, func(s *arch.Spec) bool {
			return s.Packed && s.RotaryDim == 2 && s.Window == 16 && s.RoPE.Type == "longrope" && s.RoPE.Scale == 1.5 && s.RoPE.OriginalContext == 32 &&
				s.RoPE.LongFactors[0] == 3 && s.RoPE.ShortFactors[0] == 2
		}},
		{"yarn", "qwen2", func(m *model) {
			m.keys["qwen2.rope.scaling.type"], m.keys["qwen2.rope.scaling.factor"] = "yarn", float32(4)
			m.keys["qwen2.rope.scaling.original_context_length"], m.keys["qwen2.rope.scaling.yarn_beta_fast"] = uint32(32), float32(16)
		}, func(s *arch.Spec) bool {
			return s.RoPE.Type == "yarn" && s.RoPE.Factor == 4 && s.RoPE.OriginalContext == 32 && s.RoPE.BetaFast == 16 && s.RoPE.Scale > 1.138 && s.RoPE.Scale < 1.139
		}},
		{"mixtral", "llama", func(m *model) {
			m.keys["llama.expert_count"], m.keys["llama.expert_used_count"] = uint32(2), uint32(1)
			for _, part := range []string{"gate", "up", "down"} {
				m.drop("blk.0.ffn_" + part + ".weight")
			}
			m.add("blk.0.ffn_gate_inp.weight", 2, 8)
			m.add("blk.0.ffn_gate_exps.weight", 2, 12, 8)
			m.add("blk.0.ffn_up_exps.weight", 2, 12, 8)
			m.add("blk.0.ffn_down_exps.weight", 2, 8, 12)
		}, func(s *arch.Spec) bool {
			return s.Architecture == "MixtralForCausalLM" && s.Experts == 2 && s.ExpertsUsed == 1 && s.ExpertWidth == 12 && s.NormTopK
		}},
		{"experts 0", "llama", func(m *model) { m.keys["llama.expert_count"] = uint32(0) }, func(s *arch.Spec) bool { return true }},
		{"qwen2", "qwen2", nil, func(s *arch.Spec) bool { return s.QKVBias && s.Architecture == "Qwen2ForCausalLM" }},
	} {
		c, err := openModel(t, newModel(tc.arch, tc.change))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		spec, err := arch.Parse(c.Config())
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if !tc.check(spec) {
			t.Errorf("%s: %+v", tc.name, spec)
		}
		if err := c.Check(spec.Weights()); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestGGUFRefused(t *testing.T) {
	set := func(key string, v any) func(*model) { return func(m *model) { m.keys[key] = v } }
	for _, tc := range []struct {
		name        string
		change      func(*model)
		want        string
		unsupported bool
	}{
		{"architecture", set("general.architecture", "mamba"), `GGUF architecture "mamba" (known are gemma2, gemma3, llama, phi3, qwen2, qwen3, qwen3moe)`, true},
		{"projector", set("general.type", "mmproj"), `general.type "mmproj"`, true},
		{"stacked experts of one", func(m *model) {
			m.keys["llama.expert_count"], m.keys["llama.expert_used_count"] = uint32(2), uint32(1)
			m.add("blk.0.ffn_gate_exps.weight", 12, 8)
		}, "want that of stacked experts", false},
		{"window", set("llama.attention.sliding_window", uint32(4096)), "llama.attention.sliding_window = 4096", true},
		{"unknown text", set("llama.activation", "gelu"), `llama.activation = "gelu"`, true},
		{"value length", set("llama.attention.value_length", uint32(8)), "value_length = 8 where the heads have 4", true},
		{"half rotary", set("llama.rope.dimension_count", uint32(2)), "rope.dimension_count = 2 where the heads have 4", true},
		{"by layer", set("llama.attention.head_count", []uint32{2, 2}), "with a value for each layer", true},
		{"tensor", func(m *model) { m.add("blk.0.ffn_gate_inp.weight", 4) }, `tensor "blk.0.ffn_gate_inp.weight"`, true},
		{"long rope", func(m *model) { m.add("rope_factors_long.weight", 2) }, `tensor "rope_factors_long.weight"`, true},
		{"odd divisors", func(m *model) {
			m.add("rope_freqs.weight", 2)
			m.values["rope_freqs.weight"] = tensor.Floats{2, 3.3}
		}, "not those of llama3 RoPE scaling", true},
		{"missing key", func(m *model) { delete(m.keys, "llama.block_count") }, "key llama.block_count: is missing", false},
		{"missing eps", func(m *model) { delete(m.keys, "llama.attention.layer_norm_rms_epsilon") }, "layer_norm_rms_epsilon: is missing", false},
		{"eps a string", set("llama.attention.layer_norm_rms_epsilon", "x"), "is a str, want a number", false},
		{"no heads", set("llama.attention.head_count", uint32(0)), "not the sizes of a model", false},
		{"heads do not fit", set("llama.attention.head_count", uint32(4)), "has shape [8, 8], but the keys say 4 heads of 2", false},
		{"odd head", set("llama.attention.key_length", uint32(3)), "heads of 3 elements", false},
		{"more tokens than rows", func(m *model) { m.drop("token_embd.weight"); m.add("token_embd.weight", 5, 8) }, "has 6 tokens, but the embedding has 5 rows", false},
		{"no embedding", func(m *model) { m.drop("token_embd.weight") }, "token_embd.weight: is missing", false},
	} {
		change := tc.change
		if tc.name == "heads do not fit" {
			change = func(m *model) {
				tc.change(m)
				m.keys["llama.attention.head_count_kv"] = uint32(2)
				m.drop("blk.0.attn_q.weight")
				m.add("blk.0.attn_q.weight", 9, 8)
			}
			tc.want = "has shape [9, 8], but the keys say 4 heads of 2"
		}
		_, err := openModel(t, newModel("llama", change))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
			continue
		}
		var fe *tensor.FormatError
		var ue *tensor.UnsupportedError
		if tc.unsupported && !errors.As(err, &ue) || !tc.unsupported && !errors.As(err, &fe) {
			t.Errorf("%s: error %v is of the wrong kind", tc.name, err)
		}
	}
}

func TestGGUFSupport(t *testing.T) {
	c, err := openModel(t, newModel("qwen2", func(m *model) { m.keys["tokenizer.chat_template"] = "{{ x }}\n" }))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"chat_template.jinja":    "{{ x }}\n",
		"generation_config.json": "{\n  \"bos_token_id\": 4,\n  \"eos_token_id\": [\n    3,\n    5,\n    4\n  ]\n}\n",
	}
	for _, f := range c.SupportFiles() {
		b, err := f.Data()
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		switch f.Name {
		case "tokenizer.json":
			var v struct {
				Model struct{ Vocab map[string]int }
			}
			if err := json.Unmarshal(b, &v); err != nil || v.Model.Vocab["ab"] != 2 {
				t.Errorf("tokenizer.json: %v\n%s", err, b)
			}
		case "tokenizer_config.json":
			var v map[string]any
			if err := json.Unmarshal(b, &v); err != nil || v["bos_token"] != "<|endoftext|>" || v["eos_token"] != "<|im_end|>" || v["pad_token"] != nil || v["chat_template"] != "{{ x }}\n" || v["model_max_length"] != 64.0 {
				t.Errorf("tokenizer_config.json: %v\n%s", err, b)
			}
		default:
			if string(b) != want[f.Name] {
				t.Errorf("%s: %q, want %q", f.Name, b, want[f.Name])
			}
		}
	}
	if len(c.SupportFiles()) != 4 {
		t.Errorf("%d support files", len(c.SupportFiles()))
	}
}

// TestGGUFBrokenVocabulary: opening works, the tokenizer is refused when asked for.
func TestGGUFBrokenVocabulary(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*model)
		want   string
	}{
		{"types", func(m *model) { m.keys["tokenizer.ggml.token_type"] = []int32{1} }, "has 1 entries for 6 tokens"},
		{"id", func(m *model) { m.keys["tokenizer.ggml.eos_token_id"] = uint32(6) }, "key tokenizer.ggml.eos_token_id: is 6, but there are 6 tokens"},
		{"tokens", func(m *model) { m.keys["tokenizer.ggml.tokens"] = []int32{1} }, "want an array of strings"},
		{"model", func(m *model) { m.keys["tokenizer.ggml.model"] = "bert" }, `tokenizer.ggml.model "bert"`},
	} {
		c, err := openModel(t, newModel("llama", tc.change))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		f, ok := c.SupportFile("tokenizer.json")
		if !ok {
			t.Errorf("%s: no tokenizer.json", tc.name)
			continue
		}
		if _, err := f.Data(); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "tiny.gguf") {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

// TestGGUFFolder: licence and card beside the only GGUF file are the model's;
// beside one of several they may be anybody's.
func TestGGUFFolder(t *testing.T) {
	dir := folder(t, map[string]string{"LICENSE": "free", "README.md": "card", "tokenizer.json": "not taken"})
	path := filepath.Join(dir, "tiny.gguf")
	newModel("llama", nil).write(t, path, nil)
	many := filepath.Join(folder(t, map[string]string{"LICENSE": "free", "other.gguf": "x"}), "tiny.gguf")
	newModel("llama", nil).write(t, many, nil)
	for open, want := range map[string]bool{dir: true, path: true, many: false} {
		c, err := checkpoint.Open(t.Context(), open, checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f, ok := c.SupportFile("LICENSE")
		if ok != want {
			t.Errorf("%s: LICENSE is there: %v", open, ok)
		}
		if ok {
			if b, err := f.Data(); err != nil || string(b) != "free" {
				t.Errorf("LICENSE: %q, %v", b, err)
			}
		}
		if f, _ := c.SupportFile("tokenizer.json"); f.Data != nil {
			if b, _ := f.Data(); string(b) == "not taken" {
				t.Error("tokenizer.json was taken from the folder")
			}
		}
		if c.ID() != "tiny" {
			t.Errorf("id %q", c.ID())
		}
		c.Close()
	}
}

func TestGGUFShards(t *testing.T) {
	m := newModel("llama", nil)
	m.keys["split.count"], m.keys["split.tensors.count"] = uint16(2), int32(len(m.tensors))
	dir := t.TempDir()
	one, two := filepath.Join(dir, "m-00001-of-00002.gguf"), filepath.Join(dir, "m-00002-of-00002.gguf")
	m.write(t, one, func(i int) bool { return i < 5 })
	m.write(t, two, func(i int) bool { return i >= 5 })
	for _, path := range []string{one, dir} {
		c, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		spec, err := arch.Parse(c.Config())
		if err == nil {
			err = c.Check(spec.Weights())
		}
		if err != nil || len(c.SourceFiles()) != 2 {
			t.Errorf("%v, %d source files", err, len(c.SourceFiles()))
		}
		c.Close()
	}
	for _, tc := range []struct {
		name string
		do   func()
		want string
	}{
		{"tensor twice", func() { m.write(t, two, nil) }, "is in another shard too"},
		{"tensor count", func() { m.write(t, two, func(i int) bool { return i > 5 }) }, "is 12, but the shards hold 11 tensors"},
		{"shard missing", func() { os.Remove(two) }, "shard 2 of 2"},
		{"renamed", func() { os.Rename(one, filepath.Join(dir, "x.gguf")); one = filepath.Join(dir, "x.gguf") }, "the other shards cannot be found"},
	} {
		tc.do()
		if _, err := checkpoint.Open(t.Context(), one, checkpoint.Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
}
