package target_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/target"
)

func TestParseHints(t *testing.T) {
	for _, c := range []struct {
		text string
		want target.Hints
		err  string
	}{
		{"", target.Hints{}, ""},
		{" \n", target.Hints{}, ""},
		{"{}", target.Hints{}, ""},
		{`{"attention_type": "gqa", "gqa_ratio": 4}`, target.Hints{Attention: target.GQA, GQARatio: 4}, ""},
		{`{"attention_type": "MQA"}`, target.Hints{Attention: target.MQA}, ""},
		{`{"max_context": 4096, "batch": 1, "opset": 21, "block_size": 64, "prefill_chunk": 256, "fused_ops": true}`,
			target.Hints{MaxContext: 4096, Batch: 1, Opset: 21, BlockSize: 64, PrefillChunk: 256, FusedOps: true}, ""},
		{`{"kv_cache": "int8"}`, target.Hints{KVCacheType: onnx.I8}, ""},
		{`{"kv_cache": {"type": "float16", "form": "host"}}`, target.Hints{KVCacheType: onnx.F16, KVCacheForm: target.CacheHost}, ""},
		{`{"gqa_ratio": 4.0}`, target.Hints{GQARatio: 4}, ""},

		{`{"gqa_ration": 4}`, target.Hints{}, `unknown optimization hint "gqa_ration"; did you mean "gqa_ratio"?; known are attention_type, batch, block_size`},
		{`{"speed": "high"}`, target.Hints{}, "known are attention_type, batch, block_size, fused_ops, gqa_ratio, kv_cache, max_context, opset, prefill_chunk"},
		{`{"a": 1, "b": 2}`, target.Hints{}, `hint "b"`},
		{`{"gqa_ratio": 0}`, target.Hints{}, "from 1 to"},
		{`{"gqa_ratio": 2.5}`, target.Hints{}, "2.5 is not a whole number"},
		{`{"gqa_ratio": "4"}`, target.Hints{}, "is not a whole number"},
		{`{"gqa_ratio": null}`, target.Hints{}, "null is not a whole number"},
		{`{"gqa_ratio": 1e300}`, target.Hints{}, "not a whole number from"},
		{`{"attention_type": "flash"}`, target.Hints{}, `"flash" is not one of mha, gqa, mqa`},
		{`{"attention_type": "mha", "gqa_ratio": 4}`, target.Hints{}, "contradict"},
		{`{"kv_cache": "fp8"}`, target.Hints{}, "one of float32, float16, int8"},
		{`{"kv_cache": {"kind": "x"}}`, target.Hints{}, "known are type, form"},
		{`{"kv_cache": {"form": "ring"}}`, target.Hints{}, "one of grow, shared, host"},
		{`{"kv_cache": 3}`, target.Hints{}, "is not an object"},
		{`{"opset": 20}`, target.Hints{}, "from 21 to 25"},
		{`{"block_size": 48}`, target.Hints{}, "not a power of two"},
		{`{"fused_ops": "yes"}`, target.Hints{}, "true or false"},
		{`[1]`, target.Hints{}, "write them as in"},
		{`null`, target.Hints{}, "want an object"},
		{`{"gqa_ratio": 4} x`, target.Hints{}, "text after the value"},
		{`{"gqa_ratio": 4`, target.Hints{}, "read optimization hints"},
	} {
		got, err := target.ParseHints([]byte(c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q in it", c.text, err, c.err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
	if n := len(target.HintKeys()); n != 9 {
		t.Errorf("%d keys listed", n)
	}
}

func TestCheckHints(t *testing.T) {
	gqa := &arch.Spec{Heads: 32, KVHeads: 8, MaxContext: 8192}
	mha := &arch.Spec{Heads: 12, KVHeads: 12, MaxContext: 2048}
	mqa := &arch.Spec{Heads: 8, KVHeads: 1, MaxContext: 2048}
	one := &arch.Spec{Heads: 1, KVHeads: 1, MaxContext: 2048}
	for _, c := range []struct {
		name  string
		hints target.Hints
		spec  *arch.Spec
		err   []string
	}{
		{"none", target.Hints{}, gqa, nil},
		{"right", target.Hints{Attention: target.GQA, GQARatio: 4, MaxContext: 8192, PrefillChunk: 512}, gqa, nil},
		{"wrong ratio", target.Hints{GQARatio: 8}, gqa,
			[]string{"gqa_ratio 8 is wrong: it must be 4", "32 query heads and 8 key and value heads", "num_attention_heads / num_key_value_heads = 32/8 = 4"}},
		{"mha called gqa", target.Hints{Attention: target.GQA}, mha, []string{`attention_type "gqa" is wrong: it must be "mha"`, "12/12 = 1"}},
		{"mha ratio", target.Hints{GQARatio: 1}, mha, nil},
		{"gqa called mqa", target.Hints{Attention: target.MQA}, gqa, []string{`it must be "gqa"`}},
		{"mqa", target.Hints{Attention: target.MQA, GQARatio: 8}, mqa, nil},
		{"mqa called gqa", target.Hints{Attention: target.GQA, GQARatio: 8}, mqa, []string{`it must be "mqa"`}},
		{"one head", target.Hints{Attention: target.MHA}, one, nil},
		{"context", target.Hints{MaxContext: 8193}, gqa, []string{"beyond the 8192 positions"}},
		{"chunk", target.Hints{MaxContext: 128, PrefillChunk: 256}, gqa, []string{"prefill_chunk 256 is more than the context of 128"}},
		{"two", target.Hints{Attention: target.MHA, GQARatio: 1}, gqa, []string{"gqa_ratio 1 is wrong", `attention_type "mha" is wrong`}},
	} {
		err := c.hints.Check(c.spec)
		if len(c.err) == 0 && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, want := range c.err {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q in it", c.name, err, want)
			}
		}
		d := c.hints.Derive(c.spec)
		if err := (target.Hints{Attention: d.Attention, GQARatio: d.GQARatio, MaxContext: d.MaxContext}).Check(c.spec); err != nil {
			t.Errorf("%s: what was derived is wrong: %v", c.name, err)
		}
	}
	if d := (target.Hints{BlockSize: 64}).Derive(gqa); d.Attention != target.GQA || d.GQARatio != 4 || d.MaxContext != 8192 || d.BlockSize != 64 {
		t.Errorf("derived %+v", d)
	}
}

// FuzzParseHints wants no panic, and hints only without an error.
func FuzzParseHints(f *testing.F) {
	f.Add([]byte(`{"attention_type": "gqa", "gqa_ratio": 4}`))
	f.Add([]byte(`{"kv_cache": {"type": "int8", "form": "grow"}, "opset": 23}`))
	f.Add([]byte(`{"kv_cache": [`))
	spec := &arch.Spec{Heads: 32, KVHeads: 8, MaxContext: 4096}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := target.ParseHints(text)
		if err != nil && h != (target.Hints{}) {
			t.Errorf("hints %+v beside error %v", h, err)
		}
		_ = h.Check(spec)
	})
}
