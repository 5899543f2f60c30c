package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// Attention is how query heads share key and value heads.
type Attention string

// The forms of attention.
const (
	MHA Attention = "mha" // a key and value head for each query head
	GQA Attention = "gqa" // one for each group of query heads
	MQA Attention = "mqa" // one for all
)

// CacheForm is how a graph holds keys and values of earlier tokens.
type CacheForm string

// The cache forms.
const (
	CacheGrow   CacheForm = "grow"   // past in, Concat, present out; lengths may change
	CacheShared CacheForm = "shared" // one buffer of fixed length is past and present
	CacheHost   CacheForm = "host"   // past of fixed length in, new keys and values out; the host appends them
)

// Hints are what a user asks of the graphs, from --optimization-hints. Zero
// values mean not asked for: the planner chooses.
type Hints struct {
	// Attention and GQARatio (query heads per key and value head) are facts of
	// the model; Check compares them with it.
	Attention Attention
	GQARatio  int
	// MaxContext is the number of positions that fixed shapes and tables are
	// made for.
	MaxContext int
	Batch      int
	// KVCacheType is F32, F16 or I8; KVCacheForm one of the forms.
	KVCacheType onnx.ElemType
	KVCacheForm CacheForm
	// Opset is the ai.onnx operator set to stamp.
	Opset int
	// BlockSize is the number of weights along the input axis that share a scale.
	BlockSize int
	// PrefillChunk is the number of tokens a prefill graph takes at once.
	PrefillChunk int
	// FusedOps asks for the newer ai.onnx operators (Attention,
	// RMSNormalization, RotaryEmbedding, TensorScatter) where the target's
	// release has them.
	FusedOps bool
}

// maxHint bounds every whole number of the hints.
const maxHint = 1 << 24

// hintKeys reads each key into Hints. The doc lists it to users.
var hintKeys = map[string]struct {
	doc  string
	read func(h *Hints, v json.RawMessage) error
}{
	"attention_type": {"mha, gqa or mqa", func(h *Hints, v json.RawMessage) error {
		return oneOf(v, &h.Attention, MHA, GQA, MQA)
	}},
	"gqa_ratio":     {"query heads per key and value head", func(h *Hints, v json.RawMessage) error { return whole(v, &h.GQARatio, 1, 4096) }},
	"max_context":   {"positions", func(h *Hints, v json.RawMessage) error { return whole(v, &h.MaxContext, 1, maxHint) }},
	"batch":         {"sequences at once", func(h *Hints, v json.RawMessage) error { return whole(v, &h.Batch, 1, 4096) }},
	"kv_cache":      {`{"type": "float32|float16|int8", "form": "grow|shared|host"}, or the type alone`, readCache},
	"opset":         {fmt.Sprintf("%d to %d", onnx.MinOpset, onnx.MaxOpset), func(h *Hints, v json.RawMessage) error { return whole(v, &h.Opset, onnx.MinOpset, onnx.MaxOpset) }},
	"block_size":    {"16, 32, 64, 128 or 256 weights", readBlock},
	"prefill_chunk": {"tokens", func(h *Hints, v json.RawMessage) error { return whole(v, &h.PrefillChunk, 1, 1<<16) }},
	"fused_ops":     {"true or false", func(h *Hints, v json.RawMessage) error { return unmarshal(v, &h.FusedOps, "true or false") }},
}

// HintKeys lists the keys of the hints, each with what it takes, sorted.
func HintKeys() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(hintKeys)) {
		out = append(out, k+": "+hintKeys[k].doc)
	}
	return out
}

// ParseHints reads the JSON object of --optimization-hints; empty text is no
// hints. Unknown keys are refused with the list of known ones.
func ParseHints(text []byte) (Hints, error) {
	var h Hints
	if strings.TrimSpace(string(text)) == "" {
		return h, nil
	}
	var raw map[string]json.RawMessage
	if err := strictJSON(text, &raw); err != nil {
		return Hints{}, fmt.Errorf(`read optimization hints: %w; write them as in {"attention_type": "gqa", "gqa_ratio": 4}`, err)
	}
	if raw == nil {
		return Hints{}, errors.New(`read optimization hints: want an object, as in {"attention_type": "gqa", "gqa_ratio": 4}`)
	}
	var problems []error
	known := slices.Sorted(maps.Keys(hintKeys))
	for _, k := range slices.Sorted(maps.Keys(raw)) {
		hint, ok := hintKeys[k]
		if !ok {
			problems = append(problems, fmt.Errorf("unknown optimization hint %q%s; known are %s", k, didYouMean(k, known), strings.Join(known, ", ")))
			continue
		}
		if err := hint.read(&h, raw[k]); err != nil {
			problems = append(problems, fmt.Errorf("optimization hint %s: %w", k, err))
		}
	}
	if h.Attention == MHA && h.GQARatio > 1 {
		problems = append(problems, fmt.Errorf("optimization hints contradict each other: attention_type mha means gqa_ratio 1, not %d", h.GQARatio))
	}
	if err := errors.Join(problems...); err != nil {
		return Hints{}, err
	}
	return h, nil
}

func unmarshal(v json.RawMessage, to any, want string) error {
	if string(v) == "null" {
		return fmt.Errorf("null is not %s", want)
	}
	if err := json.Unmarshal(v, to); err != nil {
		return fmt.Errorf("%s is not %s", v, want)
	}
	return nil
}

// whole reads a whole number between lo and hi.
func whole(v json.RawMessage, to *int, lo, hi int) error {
	var f float64
	if err := unmarshal(v, &f, "a whole number"); err != nil {
		return err
	}
	if f != math.Trunc(f) || f < float64(lo) || f > float64(hi) {
		return fmt.Errorf("%s is not a whole number from %d to %d", v, lo, hi)
	}
	*to = int(f)
	return nil
}

// oneOf reads one of some words, ignoring case.
func oneOf[T ~string](v json.RawMessage, to *T, words ...T) error {
	var s string
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	want := "one of " + strings.Join(list, ", ")
	if err := unmarshal(v, &s, want); err != nil {
		return err
	}
	if !slices.Contains(list, strings.ToLower(s)) {
		return fmt.Errorf("%q is not %s", s, want)
	}
	*to = T(strings.ToLower(s))
	return nil
}

func readBlock(h *Hints, v json.RawMessage) error {
	if err := whole(v, &h.BlockSize, 16, 256); err != nil {
		return err
	}
	if n := h.BlockSize; n&(n-1) != 0 {
		h.BlockSize = 0
		return fmt.Errorf("%d is not a power of two", n)
	}
	return nil
}

var cacheTypes = map[string]onnx.ElemType{"float32": onnx.F32, "float16": onnx.F16, "int8": onnx.I8}

func readCache(h *Hints, v json.RawMessage) error {
	var name string
	if err := json.Unmarshal(v, &name); err == nil {
		return readCacheType(h, v)
	}
	var raw map[string]json.RawMessage
	if err := unmarshal(v, &raw, `an object such as {"type": "float16"}`); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(raw)) {
		var err error
		switch k {
		case "type":
			err = readCacheType(h, raw[k])
		case "form":
			err = oneOf(raw[k], &h.KVCacheForm, CacheGrow, CacheShared, CacheHost)
		default:
			err = fmt.Errorf("unknown key %q; known are type, form", k)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

func readCacheType(h *Hints, v json.RawMessage) error {
	var name string
	if err := oneOf(v, &name, "float32", "float16", "int8"); err != nil {
		return err
	}
	h.KVCacheType = cacheTypes[name]
	return nil
}

// AttentionOf is the attention form of a model and its ratio, query heads per
// key and value head.
func AttentionOf(spec *arch.Spec) (form Attention, ratio int) {
	ratio = spec.Heads / spec.KVHeads
	switch {
	case ratio == 1:
		return MHA, 1
	case spec.KVHeads == 1:
		return MQA, ratio
	}
	return GQA, ratio
}

// Check compares the hints with the model. A wrong one is an error that states
// the right value and how it comes about.
func (h Hints) Check(spec *arch.Spec) error {
	form, ratio := AttentionOf(spec)
	how := fmt.Sprintf("the model has %d query heads and %d key and value heads (num_attention_heads / num_key_value_heads = %d/%d = %d)",
		spec.Heads, spec.KVHeads, spec.Heads, spec.KVHeads, ratio)
	var problems []error
	if h.GQARatio != 0 && h.GQARatio != ratio {
		problems = append(problems, fmt.Errorf("optimization hint gqa_ratio %d is wrong: it must be %d, since %s", h.GQARatio, ratio, how))
	}
	if h.Attention != "" && h.Attention != form {
		problems = append(problems, fmt.Errorf("optimization hint attention_type %q is wrong: it must be %q, since %s", h.Attention, form, how))
	}
	if h.MaxContext > spec.MaxContext {
		problems = append(problems, fmt.Errorf("optimization hint max_context %d is beyond the %d positions the model was trained for (max_position_embeddings)", h.MaxContext, spec.MaxContext))
	}
	limit := spec.MaxContext
	if h.MaxContext > 0 {
		limit = min(limit, h.MaxContext)
	}
	if h.PrefillChunk > limit {
		problems = append(problems, fmt.Errorf("optimization hint prefill_chunk %d is more than the context of %d", h.PrefillChunk, limit))
	}
	return errors.Join(problems...)
}

// Derive fills in what follows from the model: attention form, ratio, context.
func (h Hints) Derive(spec *arch.Spec) Hints {
	h.Attention, h.GQARatio = AttentionOf(spec)
	if h.MaxContext == 0 || h.MaxContext > spec.MaxContext {
		h.MaxContext = spec.MaxContext
	}
	return h
}
