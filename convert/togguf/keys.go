package togguf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// key is one key and its value, of a type that gguf.Writer takes.
type key struct {
	name  string
	value any
}

// keys collects them in the order of the file.
type keys []key

func (k *keys) add(name string, value any) { *k = append(*k, key{name, value}) }

// text adds a string unless it is empty.
func (k *keys) text(name, value string) {
	if value != "" {
		k.add(name, value)
	}
}

// has reports whether a key is there already.
func (k keys) has(name string) bool {
	for _, e := range k {
		if e.name == name {
			return true
		}
	}
	return false
}

// model adds the keys of the architecture (conversion/base.py,
// TextModel.set_gguf_parameters).
func (k *keys) model(spec *arch.Spec, f family) error {
	p := f.name + "."
	k.add(p+"block_count", uint32(spec.Layers))
	context := spec.MaxContext
	if f.ignoresWindow && spec.Window > 0 {
		context = min(context, spec.Window)
	}
	k.add(p+"context_length", uint32(context))
	k.add(p+"embedding_length", uint32(spec.Hidden))
	k.add(p+"feed_forward_length", uint32(spec.Intermediate))
	k.add(p+"attention.head_count", uint32(spec.Heads))
	k.add(p+"attention.head_count_kv", uint32(spec.KVHeads))
	switch spec.RoPE.Type {
	case "default", "llama3": // the latter is a tensor
	case "linear":
		k.add(p+"rope.scaling.type", "linear")
		k.add(p+"rope.scaling.factor", float32(spec.RoPE.Factor))
	case "yarn":
		if err := k.yarn(p, spec.RoPE); err != nil {
			return err
		}
	case "longrope": // whose factors are tensors
		if f.name != "phi3" {
			return refuse("longrope of %s", spec.Architecture)
		}
		k.add(p+"rope.scaling.type", "longrope")
		k.add(p+"rope.scaling.attn_factor", float32(cmp.Or(spec.RoPE.Scale, 1)))
		k.add(p+"rope.scaling.original_context_length", uint32(spec.RoPE.OriginalContext))
	default:
		return refuse("RoPE scaling %q", spec.RoPE.Type)
	}
	k.family(p, spec, f)
	if spec.Experts > 0 {
		k.add(p+"expert_count", uint32(spec.Experts))
		k.add(p+"expert_used_count", uint32(spec.ExpertsUsed))
		if f.name == "qwen3moe" {
			k.add(p+"expert_feed_forward_length", uint32(spec.ExpertWidth))
		}
	}
	k.add(p+"rope.freq_base", float32(spec.RoPE.Theta))
	k.add(p+"attention.layer_norm_rms_epsilon", spec.NormEps)
	k.add(p+"attention.key_length", uint32(spec.HeadDim))
	k.add(p+"attention.value_length", uint32(spec.HeadDim))
	if f.vocabSize {
		k.add(p+"vocab_size", uint32(spec.Vocab))
	}
	if f.ropeDim {
		k.add(p+"rope.dimension_count", uint32(spec.Rotary()))
	}
	return nil
}

// yarn adds the keys of that scaling. llama.cpp multiplies cosines and sines by
// 0.1·ln(factor)+1 itself, and by attn_factor.
func (k *keys) yarn(p string, r arch.RoPE) error {
	if !r.WholePairs {
		return refuse("yarn RoPE scaling with truncate false")
	}
	k.add(p+"rope.scaling.type", "yarn")
	k.add(p+"rope.scaling.factor", float32(r.Factor))
	k.add(p+"rope.scaling.original_context_length", uint32(r.OriginalContext))
	if r.BetaFast != 32 {
		k.add(p+"rope.scaling.yarn_beta_fast", float32(r.BetaFast))
	}
	if r.BetaSlow != 1 {
		k.add(p+"rope.scaling.yarn_beta_slow", float32(r.BetaSlow))
	}
	own := 1.0
	if r.Factor > 1 {
		own = 0.1*math.Log(r.Factor) + 1
	}
	if ratio := r.Scale / own; math.Abs(ratio-1) > 1e-6 {
		k.add(p+"rope.scaling.attn_factor", float32(ratio))
	}
	return nil
}

// family adds what only some architectures have.
func (k *keys) family(p string, spec *arch.Spec, f family) {
	switch f.name {
	case "gemma2":
		k.add(p+"attention.sliding_window", uint32(spec.Window))
		k.add(p+"attn_logit_softcapping", spec.AttnSoftcap)
		k.add(p+"final_logit_softcapping", spec.LogitSoftcap)
	case "gemma3":
		if n := pattern(spec); n != 1 {
			k.add(p+"attention.sliding_window", uint32(spec.Window))
			if n != 6 { // llama.cpp's default
				k.add(p+"attention.sliding_window_pattern", uint32(n))
			}
			k.add(p+"rope.freq_base_swa", float32(spec.LocalRoPE.Theta))
		}
		if spec.LogitSoftcap != 0 {
			k.add(p+"final_logit_softcapping", spec.LogitSoftcap)
		}
	case "phi3":
		if spec.RoPE.Type != "longrope" {
			k.add(p+"rope.scaling.original_context_length", uint32(spec.MaxContext))
		}
		// llama.cpp warns of any other; see family.ignoresWindow.
		k.add(p+"attention.sliding_window", uint32(0))
	}
}

// general adds what is known of the model beside its arithmetic
// (gguf-py, metadata.py).
func (k *keys) general(spec *arch.Spec, o Options) error {
	if err := k.sampling(o); err != nil {
		return err
	}
	readme, err := o.read("README.md")
	if err != nil {
		return err
	}
	c := parseCard(string(readme))
	parameters := spec.Parameters()
	n := parseName(o.ID, parameters)
	first := func(list ...string) string {
		for _, s := range list {
			if s != "" {
				return s
			}
		}
		return ""
	}
	k.add("general.name", first(c.first("name", "model_name"), title(n.full), "model"))
	k.text("general.author", c.first("author", "model_author", "model_creator"))
	k.text("general.version", first(c.first("version", "model_version"), n.version))
	k.text("general.organization", first(c.first("organization", "model_organization"), title(n.organization)))
	k.text("general.finetune", first(c.first("finetune", "model_finetune"), n.finetune))
	k.text("general.basename", first(c.first("basename", "model_basename", "model_type"), n.base))
	k.text("general.description", c.first("description", "model_description"))
	k.add("general.size_label", first(c.first("size_label", "model_size_label"), n.size, sizeLabel(parameters)))
	k.text("general.license", strings.Join(c["license"], ","))
	k.text("general.license.name", c.first("license_name"))
	k.text("general.license.link", c.first("license_link"))
	k.text("general.source.url", c.first("url", "model_url"))
	k.text("general.source.repo_url", c.first("repo_url", "model_repo_url"))
	k.relatives("base_model", c.all("base_model", "base_models", "base_model_sources"), parameters)
	k.relatives("dataset", c.all("datasets", "dataset", "dataset_sources"), parameters)
	for _, list := range []struct {
		key  string
		from []string
	}{{"general.tags", c.all("tags", "pipeline_tag")}, {"general.languages", c.all("languages", "language")}} {
		if len(list.from) > 0 {
			k.add(list.key, list.from)
		}
	}
	return nil
}

// relatives adds the models or data sets that a model was made from, by their
// ids on the hub.
func (k *keys) relatives(kind string, ids []string, parameters int64) {
	if len(ids) == 0 {
		return
	}
	k.add("general."+kind+".count", uint32(len(ids)))
	for i, id := range ids {
		p := fmt.Sprintf("general.%s.%d.", kind, i)
		url := ""
		if strings.Contains(id, "://") {
			rest, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(id, "http://"), "https://"), "huggingface.co/")
			if !ok || strings.Count(rest, "/") != 1 {
				k.add(p+"repo_url", id)
				continue
			}
			url, id = id, rest
		}
		n := parseName(id, parameters)
		k.text(p+"name", title(n.full))
		k.text(p+"version", n.version)
		k.text(p+"organization", title(n.organization))
		if url == "" && n.organization != "" {
			url = "https://huggingface.co/" + id
		}
		k.text(p+"repo_url", url)
	}
}

// sampling adds what generation_config.json advises.
func (k *keys) sampling(o Options) error {
	b, err := o.read("generation_config.json")
	if err != nil || b == nil {
		return err
	}
	var g struct {
		TopK              *int32   `json:"top_k"`
		TopP              *float32 `json:"top_p"`
		MinP              *float32 `json:"min_p"`
		Temperature       *float32 `json:"temperature"`
		RepetitionPenalty *float32 `json:"repetition_penalty"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return &tensor.FormatError{Offset: -1, Field: "generation_config.json", Err: err}
	}
	if g.TopK != nil {
		k.add("general.sampling.top_k", *g.TopK)
	}
	for _, f := range []struct {
		name string
		v    *float32
	}{{"top_p", g.TopP}, {"min_p", g.MinP}, {"temp", g.Temperature}, {"penalty_repeat", g.RepetitionPenalty}} {
		if f.v != nil {
			k.add("general.sampling."+f.name, *f.v)
		}
	}
	return nil
}

// copied adds the keys of a GGUF source whose names begin with prefix, as they
// are; those in but are for the new file to say.
func (k *keys) copied(r *gguf.Reader, prefix string, but ...string) {
next:
	for _, v := range r.Values() {
		if !strings.HasPrefix(v.Key, prefix) || k.has(v.Key) {
			continue
		}
		for _, b := range but {
			if v.Key == b {
				continue next
			}
		}
		k.add(v.Key, v)
	}
}
