package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Names of an adapter's files, as PEFT saves it.
const (
	adapterConfig  = "adapter_config.json"
	adapterWeights = "adapter_model.safetensors"
	adapterPrefix  = "base_model.model."
)

// loraConfig is what counts of a LoraConfig (PEFT, tuners/lora/config.py).
type loraConfig struct {
	rank, alpha   float64
	rsLoRA        bool
	fanInFanOut   bool
	rankPattern   patterns
	alphaPattern  patterns
	targets       []string
	targetPattern *regexp.Regexp // where target_modules is one expression
}

// pattern is an entry of rank_pattern or alpha_pattern.
type pattern struct {
	module *regexp.Regexp
	value  float64
}

// loraIgnored are settings of training, of initial values and of bookkeeping,
// and those that choose modules, which the tensors show.
var loraIgnored = []string{
	"base_model_name_or_path", "revision", "task_type", "inference_mode", "auto_mapping", "peft_version", "lora_dropout",
	"layers_to_transform", "layers_pattern", "exclude_modules", "modules_to_save", "ensure_weight_tying",
	"loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size", "megatron_core", "unsloth_fixed",
}

// loraInits are values of init_lora_weights that leave the base weights alone.
// PiSSA, OLoRA, CorDA and LoftQ change them, so that an adapter made with one
// belongs to other weights than the base model's.
var loraInits = []string{"true", "false", "null", `"gaussian"`, `"eva"`, `"orthogonal"`}

// parseLoRA reads an adapter_config.json. Settings that change the arithmetic
// and are not known here are refused by name.
func parseLoRA(path string, b []byte) (*loraConfig, error) {
	fail := func(field string, err error) error {
		return &tensor.FormatError{Path: path, Offset: -1, Field: field, Err: err}
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fail("adapter", fmt.Errorf("not a JSON object: %w", err))
	}
	var kind string
	if json.Unmarshal(raw["peft_type"], &kind) != nil || kind == "" {
		return nil, &tensor.UnsupportedError{What: "adapter " + path, Hint: "it has no peft_type; adapters as PEFT saves them can be merged"}
	}
	if kind != "LORA" {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("adapter of type %.40s", kind), Hint: "LoRA can be merged; merge others with peft's merge_and_unload"}
	}
	var c loraConfig
	targets := json.RawMessage("null")
	fields := map[string]any{
		"peft_type": &kind, "r": &c.rank, "lora_alpha": &c.alpha, "use_rslora": &c.rsLoRA, "fan_in_fan_out": &c.fanInFanOut,
		"rank_pattern": &c.rankPattern, "alpha_pattern": &c.alphaPattern, "target_modules": &targets,
	}
	for name, value := range raw {
		v := string(bytes.TrimSpace(value))
		dst, used := fields[name]
		switch {
		case used && v != "null":
			if err := json.Unmarshal(value, dst); err != nil {
				return nil, fail(name, err)
			}
		case used, slices.Contains(loraIgnored, name), name == "init_lora_weights" && slices.Contains(loraInits, v):
		case slices.Contains([]string{"null", "false", "0", `""`, `"none"`, "[]", "{}"}, strings.ReplaceAll(v, " ", "")):
		default:
			return nil, &tensor.UnsupportedError{
				What: fmt.Sprintf("adapter setting %s = %.60s in %s", name, v, path),
				Hint: "merge it with peft's merge_and_unload and convert the result",
			}
		}
	}
	if !(c.rank >= 1) || math.IsNaN(c.alpha) || math.IsInf(c.alpha, 0) {
		return nil, fail("r", fmt.Errorf("rank %g with lora_alpha %g", c.rank, c.alpha))
	}
	return &c, c.setTargets(targets)
}

// patterns is a JSON object as a list, since the first match counts.
type patterns []pattern

// UnmarshalJSON implements [json.Unmarshaler].
func (p *patterns) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value float64
		if err := d.Decode(&value); err != nil {
			return err
		}
		// PEFT, tuners/tuners_utils.py, get_pattern_key.
		re, err := regexp.Compile(`^(?:(?:.*\.)?(?:` + key.(string) + `))$`)
		if err != nil {
			return err
		}
		*p = append(*p, pattern{re, value})
	}
	return nil
}

// setTargets reads target_modules: a list of names, or one expression.
func (c *loraConfig) setTargets(raw json.RawMessage) error {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		if one != "all-linear" {
			// Python's look-around is not Go's; then the tensors alone count.
			c.targetPattern, _ = regexp.Compile("^(?:" + one + ")$")
		}
		return nil
	}
	if err := json.Unmarshal(raw, &c.targets); err != nil {
		return &tensor.FormatError{Path: adapterConfig, Offset: -1, Field: "target_modules", Err: errors.New("neither a name nor a list of names")}
	}
	return nil
}

// wants reports whether the module is one of target_modules.
func (c *loraConfig) wants(module string) bool {
	if c.targetPattern != nil {
		return c.targetPattern.MatchString(module)
	}
	return c.targets == nil || slices.ContainsFunc(c.targets, func(t string) bool { return module == t || strings.HasSuffix(module, "."+t) })
}

// scale is what B·A is multiplied with: alpha/r, or alpha/√r for rank-stabilized
// LoRA (arXiv 2312.03732).
func (c *loraConfig) scale(module string) (rank int, scale float32) {
	first := func(list patterns, value float64) float64 {
		i := slices.IndexFunc(list, func(p pattern) bool { return p.module.MatchString(module) })
		if i < 0 {
			return value
		}
		return list[i].value
	}
	r, alpha := first(c.rankPattern, c.rank), first(c.alphaPattern, c.alpha)
	if c.rsLoRA {
		return int(r), float32(alpha / math.Sqrt(r))
	}
	return int(r), float32(alpha / r)
}

// loraPair is the two factors of one module.
type loraPair struct {
	a, b      *tensor.Tensor
	embedding bool
}

// mergeLoRA adds the adapter in dir to the weights, as they are read. Merged
// tensors are float32, whatever the base's were.
func (c *Checkpoint) mergeLoRA(dir string) error {
	configPath, path := filepath.Join(dir, adapterConfig), filepath.Join(dir, adapterWeights)
	b, err := readSmall(configPath)
	if err != nil {
		return err
	}
	cfg, err := parseLoRA(configPath, b)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "adapter_model.bin")); err == nil {
			return pickleErr("adapter_model.bin")
		}
	}
	r, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	c.closer = closers{c.closer, r}
	pairs := map[string]*loraPair{}
	for _, t := range r.Tensors() {
		if err := c.addAdapterTensor(pairs, t, path); err != nil {
			return err
		}
	}
	if len(pairs) == 0 {
		return &tensor.FormatError{Path: path, Offset: -1, Field: "tensors", Err: errors.New("none of them is a LoRA factor")}
	}
	for _, module := range slices.Sorted(maps.Keys(pairs)) {
		if err := c.mergePair(cfg, module, pairs[module], path); err != nil {
			return err
		}
	}
	c.adapter = dir
	return errors.Join(c.addSource(configPath), c.addSource(path))
}

// adapterPart splits a tensor's name into module and part. Adapters saved by
// hand keep the adapter's name, "default".
var adapterPart = regexp.MustCompile(`^(.+)\.lora_(embedding_)?([AB])(?:\.default)?(\.weight)?$`)

// addAdapterTensor sorts a tensor of the adapter: a factor, or a weight that
// was trained whole (modules_to_save).
func (c *Checkpoint) addAdapterTensor(pairs map[string]*loraPair, t *tensor.Tensor, path string) error {
	name, ok := strings.CutPrefix(t.Name, adapterPrefix)
	if !ok {
		name = t.Name
	}
	m := adapterPart.FindStringSubmatch(name)
	switch {
	case m == nil || (m[2] == "") == (m[4] == ""):
		return c.replaceWhole(textName(name), t, path)
	case !readable(t.Type) || len(t.Shape) != 2:
		return &tensor.FormatError{Path: path, Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: fmt.Errorf("is %s of shape %v, no matrix of floats", t.Type, t.Shape)}
	}
	p := pairs[m[1]]
	if p == nil {
		p = &loraPair{embedding: m[2] != ""}
		pairs[m[1]] = p
	}
	slot := &p.a
	if m[3] == "B" {
		slot = &p.b
	}
	if *slot != nil || p.embedding != (m[2] != "") {
		return &tensor.FormatError{Path: path, Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("its module has another of the kind")}
	}
	*slot = t
	return nil
}

// replaceWhole takes a trained weight in place of the base's.
func (c *Checkpoint) replaceWhole(name string, t *tensor.Tensor, path string) error {
	base, ok := c.Stored(name)
	if !ok || !strings.HasSuffix(name, ".weight") && !strings.HasSuffix(name, ".bias") {
		return c.noPlace(t.Name, path)
	}
	if err := c.refuseTied(name, path); err != nil {
		return err
	}
	if !base.Shape.Equal(t.Shape) || !readable(t.Type) {
		return &tensor.UnsupportedError{
			What: fmt.Sprintf("adapter tensor %.100q, %s of shape %v in place of shape %v", t.Name, t.Type, t.Shape, base.Shape),
			Hint: "the adapter's vocabulary was extended, or it belongs to another model",
		}
	}
	base.Type, base.Bytes, base.Reader = t.Type, t.Bytes, t.Reader
	return nil
}

func (c *Checkpoint) noPlace(name, path string) error {
	return &tensor.UnsupportedError{
		What: fmt.Sprintf("adapter tensor %.100q of %s", name, path),
		Hint: "it is no LoRA factor of a weight that the base model has",
	}
}

// refuseTied refuses to change an embedding that is the head too: in training
// the adapter changed one of the two.
func (c *Checkpoint) refuseTied(name, path string) error {
	if _, ok := c.Stored("lm_head.weight"); !ok && name == "model.embed_tokens.weight" {
		return &tensor.UnsupportedError{
			What: fmt.Sprintf("adapter %s, which changes an embedding that is tied to the head", path),
			Hint: "merge it with peft, with the head untied, and convert the result",
		}
	}
	return nil
}

// mergePair puts the sum of weight and product in the weight's place:
//
//	W[out, in] += scale · B[out, r] · A[r, in]
//
// transposed where fan_in_fan_out says that W is [in, out], and for embeddings,
// which are [vocabulary, hidden] with A[r, vocabulary] and B[hidden, r] (PEFT,
// tuners/lora/layer.py, get_delta_weight).
func (c *Checkpoint) mergePair(cfg *loraConfig, module string, p *loraPair, path string) error {
	fail := func(format string, a ...any) error {
		return &tensor.FormatError{Path: path, Offset: -1, Field: fmt.Sprintf("module %.100q", module), Err: fmt.Errorf(format, a...)}
	}
	if p.a == nil || p.b == nil {
		return fail("has one of the factors A and B, not both")
	}
	if !cfg.wants(module) {
		return fail("is none of the target_modules")
	}
	name := textName(module + ".weight")
	base, ok := c.Stored(name)
	if !ok {
		return c.noPlace(p.a.Name, path)
	}
	if err := c.refuseTied(name, path); err != nil {
		return err
	}
	rank, scale := cfg.scale(module)
	if rank < 1 || p.a.Shape[0] != rank || p.b.Shape[1] != rank {
		return fail("has factors A %v and B %v, the configuration says rank %d", p.a.Shape, p.b.Shape, rank)
	}
	transposed := p.embedding || cfg.fanInFanOut
	want := tensor.Shape{p.b.Shape[0], p.a.Shape[1]}
	if transposed {
		slices.Reverse(want)
	}
	if !base.Shape.Equal(want) {
		return fail("has factors for shape %v, the base model's weight is %v", want, base.Shape)
	}
	if !readable(base.Type) {
		return &tensor.UnsupportedError{What: fmt.Sprintf("adapter on tensor %.100q of type %s", name, base.Type), Hint: "take the 16-bit base model"}
	}
	base.Reader = &loraWeight{base: base.Reader, a: p.a, b: p.b, rank: rank, cols: want[1], scale: scale, transposed: transposed}
	base.Type, base.Bytes = tensor.F32.String(), 4*base.Elements()
	return nil
}

// loraWeight yields a weight with its product added. A read takes the rows of
// one factor that it needs and the other whole: at rank r, a chunk of n rows
// costs r/n more reading than the weight alone.
type loraWeight struct {
	base       tensor.Reader
	a, b       *tensor.Tensor // A is [rank, in], B [out, rank]
	rank, cols int
	scale      float32
	transposed bool // the weight is [in, out]
}

// ReadFloat32 implements [tensor.Reader].
func (w *loraWeight) ReadFloat32(dst []float32, offset int64) error {
	if err := w.base.ReadFloat32(dst, offset); err != nil || len(dst) == 0 {
		return err
	}
	cols := int64(w.cols)
	first, last := int(offset/cols), int((offset+int64(len(dst))-1)/cols)
	left, err := w.left(first, last+1-first)
	if err != nil {
		return fmt.Errorf("read the adapter: %w", err)
	}
	from, to := 0, w.cols // the columns that are asked for
	if first == last {
		from = int(offset % cols)
		to = from + len(dst)
	}
	right, err := w.right(from, to-from)
	if err != nil {
		return fmt.Errorf("read the adapter: %w", err)
	}
	sum := make([]float32, to-from)
	for i, at := 0, offset; len(dst) > 0; i++ {
		begin := int(at%cols) - from
		n := min(len(dst), len(sum)-begin)
		product(sum[begin:begin+n], left[i*w.rank:(i+1)*w.rank], right, begin, to-from)
		for j, v := range sum[begin : begin+n] {
			dst[j] += float32(w.scale * v)
		}
		dst, at = dst[n:], at+int64(n)
	}
	return nil
}

// product computes sum[j] = Σ_k left[k] · right[k][at+j], k ascending, with
// right of rows of width elements. Four rows at a time spare three of four
// passes over sum.
func product(sum, left, right []float32, at, width int) {
	clear(sum)
	row := func(k int) []float32 { return right[k*width+at:][:len(sum)] }
	k := 0
	for ; k+4 <= len(left); k += 4 {
		l0, l1, l2, l3 := left[k], left[k+1], left[k+2], left[k+3]
		r0, r1, r2, r3 := row(k), row(k+1), row(k+2), row(k+3)
		for j, s := range sum {
			s += float32(l0 * r0[j])
			s += float32(l1 * r1[j])
			s += float32(l2 * r2[j])
			sum[j] = s + float32(l3*r3[j])
		}
	}
	for ; k < len(left); k++ {
		for j, v := range row(k) {
			sum[j] += float32(left[k] * v)
		}
	}
}

// left reads n rows of the product's left factor, [n, rank].
func (w *loraWeight) left(first, n int) ([]float32, error) {
	if w.transposed {
		return columns(w.a, first, n, w.rank, true)
	}
	return rows(w.b, first, n, w.rank, false)
}

// right reads n columns of the product's right factor, [rank, n].
func (w *loraWeight) right(first, n int) ([]float32, error) {
	if w.transposed {
		return rows(w.b, first, n, w.rank, true)
	}
	return columns(w.a, first, n, w.rank, false)
}

// rows reads n rows of B, as [n, rank] or turned as [rank, n].
func rows(b *tensor.Tensor, first, n, rank int, turned bool) ([]float32, error) {
	v := make([]float32, n*rank)
	if err := b.ReadFloat32(v, int64(first)*int64(rank)); err != nil || !turned {
		return v, err
	}
	return turn(v, n, rank), nil
}

// columns reads n columns of A, as [rank, n] or turned as [n, rank].
func columns(a *tensor.Tensor, first, n, rank int, turned bool) ([]float32, error) {
	v := make([]float32, rank*n)
	for k := range rank {
		if err := a.ReadFloat32(v[k*n:(k+1)*n], int64(k)*int64(a.Shape[1])+int64(first)); err != nil {
			return nil, err
		}
	}
	if !turned {
		return v, nil
	}
	return turn(v, rank, n), nil
}

// turn transposes a matrix of the given rows and columns.
func turn(v []float32, rows, cols int) []float32 {
	t := make([]float32, len(v))
	for i := range rows {
		for j := range cols {
			t[j*rows+i] = v[i*cols+j]
		}
	}
	return t
}
