package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/target"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// fusedOps are the newer operators that hints and recipes can ask for, with the
// ai.onnx version that has them all.
var fusedOps = []string{"Attention", "RMSNormalization", "RotaryEmbedding"}

const fusedOpset = 23

// cacheForms is the cache form of each dialect.
var cacheForms = map[string]target.CacheForm{
	"fused": target.CacheShared, "standard": target.CacheGrow, "qdq": target.CacheGrow, "static": target.CacheHost,
}

// applyHints checks the hints against the model and sets what concerns the
// whole job.
func (j *Job) applyHints() error {
	h := j.opts.Hints
	if err := h.Check(j.Spec); err != nil {
		return err
	}
	if h.MaxContext > 0 {
		if c := j.opts.MaxContext; c > 0 && c != h.MaxContext {
			return fmt.Errorf("the context is asked for twice: %d tokens, and max_context %d in the optimization hints", c, h.MaxContext)
		}
		j.opts.MaxContext = h.MaxContext
	}
	return nil
}

// hinted is the recipe of an artifact as the hints want it. A wish that the
// recipe's kind of graph cannot fulfil is an error.
func hinted(w wanted, h target.Hints) (*recipe.Recipe, error) {
	if w.provider == nil || h == (target.Hints{}) {
		return w.Recipe, nil
	}
	r := *w.Recipe
	r.Rules = slices.Clone(r.Rules)
	no := func(what, why string, a ...any) error {
		return &tensor.UnsupportedError{What: what + " for " + w.dir, Hint: fmt.Sprintf(why, a...)}
	}
	if err := hintCache(&r, h, no); err != nil {
		return nil, err
	}
	if h.Batch > 1 && (r.Dialect == "static" || r.FixedDecode) {
		return nil, no(fmt.Sprintf("batch %d", h.Batch), "its graphs have fixed shapes, for one sequence")
	}
	if h.Opset != 0 {
		r.Opset = h.Opset
	}
	if h.FusedOps && r.Dialect != "fused" {
		if err := hintFused(&r, w.provider, no); err != nil {
			return nil, err
		}
	}
	if h.PrefillChunk > 0 && r.Dialect == "static" {
		r.Prefill = h.PrefillChunk
	}
	if h.BlockSize > 0 {
		for i, rule := range r.Rules {
			if rule.Bits == 4 || rule.Bits == 8 && rule.Block > 0 {
				r.Rules[i].Block = h.BlockSize
			}
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("recipe %s with the optimization hints: %w", r.Name, err)
	}
	if _, err := recipe.Parse(b); err != nil {
		return nil, fmt.Errorf("recipe %s with the optimization hints: %w", r.Name, err)
	}
	return &r, nil
}

// hintCache fits type and form of the cache.
func hintCache(r *recipe.Recipe, h target.Hints, no func(what, why string, a ...any) error) error {
	own := map[string]onnx.ElemType{"float32": onnx.F32, "float16": onnx.F16}[r.Activations]
	switch t := h.KVCacheType; {
	case t == onnx.Undefined:
	case t == own:
		r.KVCache = ""
	case t == onnx.I8 && r.Dialect == "fused":
		r.KVCache = "int8"
	default:
		return no(fmt.Sprintf("a cache of type %v", t), "its cache has the type of the activations, %s, or int8 with fused attention", r.Activations)
	}
	switch form := h.KVCacheForm; {
	case form == "":
	case form == target.CacheShared && r.Dialect == "fused":
		r.FixedDecode = r.FixedDecode || r.Target == "cuda"
	case form == target.CacheHost && r.Dialect == "qdq":
		r.Dialect = "static"
	case form != cacheForms[r.Dialect]:
		return no(fmt.Sprintf("the cache form %q", form), "graphs of the %s dialect have the form %q", r.Dialect, cacheForms[r.Dialect])
	}
	return nil
}

// hintFused asks for those of the newer operators that the provider takes.
func hintFused(r *recipe.Recipe, t *target.Target, no func(what, why string, a ...any) error) error {
	if r.Opset == 0 {
		r.Opset = fusedOpset
	}
	r.Operators = nil
	for _, op := range fusedOps {
		if t.Takes(onnx.DomainONNX, op, int64(r.Opset)) {
			r.Operators = append(r.Operators, op)
		}
	}
	if len(r.Operators) == 0 {
		return no("fused_ops", "%s knows none of %s at opset %d; name a newer release, as in tensorrt@10.15", t.Label(), strings.Join(fusedOps, ", "), r.Opset)
	}
	return nil
}
