package recipe

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

//go:embed data/*.json
var builtin embed.FS

// Recipe is one recipe file.
type Recipe struct {
	// Name is the output folder's name: letters, digits, '-', '_' and '.'.
	Name    string `json:"name"`
	Summary string `json:"summary"`
	// Target is the execution provider's folder, such as "cpu".
	Target string `json:"target"`
	// Precision is the headline of metadata: "int4", "int8", "fp16", "fp32".
	Precision string `json:"precision"`
	// Dialect is the kind of graph: "fused" (com.microsoft operators);
	// "standard" (ai.onnx alone, floats); "qdq" (the same with weights behind
	// DequantizeLinear); "static" (qdq with every shape fixed and the cache
	// kept by the host: a decode and a prefill graph).
	Dialect string `json:"dialect"`
	// Opset is the ai.onnx version; default 21.
	Opset int `json:"opset,omitempty"`
	// Operators lists newer ai.onnx operators to use instead of their parts
	// (qdq dialect): "Attention", "RMSNormalization", "RotaryEmbedding"; they
	// need opset 23.
	Operators []string `json:"operators,omitempty"`
	// Context caps the positions of a cache of fixed length; default 2048.
	Context int `json:"context,omitempty"`
	// FixedDecode writes a graph of fixed shapes for one token over a cache of
	// Context positions, beside one of open shapes for prompts: what a CUDA
	// graph wants (fused dialect).
	FixedDecode bool `json:"fixed_decode,omitempty"`
	// Prefill is the number of tokens a static prefill graph takes; default 64.
	Prefill int `json:"prefill,omitempty"`
	// Activations is the element type between nodes: "float32" or "float16".
	Activations string `json:"activations"`
	// AccuracyLevel is MatMulNBits' attribute: 4 computes in int8, 0 in fp32.
	AccuracyLevel int `json:"accuracy_level"`
	// Calibration says what the recipe should know of the activations: "" for
	// nothing; "probe" for which channels matter, which a few random token ids
	// show well enough; "text" for what a text shows better, and for ranges,
	// which only a text shows.
	Calibration string `json:"calibration,omitempty"`
	// Fold moves scale from activations into weights before they are quantized
	// (package calibrate). Keys are the inputs qkv, o, gate_up and down, or
	// all, which the others override.
	Fold map[string]Gain `json:"fold,omitempty"`
	// KVCache is the element type of cached keys and values: "" for that of
	// the activations, or "int8", with one step a layer from a probe of the
	// model (fused dialect).
	KVCache string `json:"kv_cache,omitempty"`
	Rules   []Rule `json:"rules"`
}

// Gain folds one input.
type Gain struct {
	// Method is "awq", "smoothquant" or "none".
	Method string `json:"method"`
	// Alpha is the method's exponent, between 0 and 1.
	Alpha float64 `json:"alpha,omitempty"`
	// Search tries several exponents of awq for each layer instead, and takes
	// the one with the least error of the stored matrices' products.
	Search bool `json:"search,omitempty"`
}

// Rule sets the form of some roles in some layers.
type Rule struct {
	// Roles as arch names them ("q", "down"); empty means every matrix.
	Roles []string `json:"roles,omitempty"`
	// Layers: "" or "all"; "more" for llama.cpp's use_more_bits rule (the
	// first and last eighth and every third between); or a list such as
	// "0,1,27-29".
	Layers string `json:"layers,omitempty"`
	// Bits: 32 and 16 are floats; 8 and 4 are blocks.
	Bits int `json:"bits"`
	// Block is the number of weights that share a scale; default 32. In the
	// qdq and static dialects the default is a whole row for 8 bits, and for 4
	// bits 128, or 64 in models under a billion parameters and where 128 does
	// not divide the row. -1 in the fused dialect is 32, or 64 from a billion
	// parameters on.
	Block int `json:"block,omitempty"`
	// Symmetric blocks have no zero point.
	Symmetric bool `json:"symmetric,omitempty"`
	// Offsets adds a number to every block, in place of a zero point (qdq
	// dialect, 4 bits); the graph adds what it does to products.
	Offsets bool `json:"offsets,omitempty"`
	// Method is "search" (default) or "rtn".
	Method string `json:"method,omitempty"`
	// Scales is "f16" (default) or "f32".
	Scales string `json:"scales,omitempty"`
	// Input "int8" quantizes what the matrix multiplies as well, in matrices of
	// 8 bits with one scale a row: in the qdq dialect with one step that
	// calibration "text" finds, in the fused one on the CPU with a step for each
	// position, found at run time.
	Input string `json:"input,omitempty"`
}

// Builtin lists the names of the built-in recipes of a target, sorted.
func Builtin(target string) []string {
	var names []string
	files, _ := fs.Glob(builtin, "data/"+target+"-*.json")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f, "data/"+target+"-"), ".json"))
	}
	slices.Sort(names)
	return names
}

// Load finds a recipe by built-in name for a target, or reads a recipe file.
func Load(target, nameOrFile string) (*Recipe, error) {
	if b, err := builtin.ReadFile("data/" + target + "-" + nameOrFile + ".json"); err == nil {
		return Parse(b)
	}
	b, err := os.ReadFile(nameOrFile)
	if err != nil {
		return nil, fmt.Errorf("recipe %q: neither a built-in recipe of target %s (%s) nor a file that can be read: %w",
			nameOrFile, target, strings.Join(Builtin(target), ", "), err)
	}
	r, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("recipe file %s: %w", nameOrFile, err)
	}
	if r.Target != target {
		return nil, fmt.Errorf("recipe file %s is for target %q, not %q", nameOrFile, r.Target, target)
	}
	return r, nil
}

// File is the recipe as a file: what [Parse] reads and a user can copy and
// change.
func (r *Recipe) File() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Parse reads and checks a recipe file. Unknown keys are refused.
func Parse(b []byte) (*Recipe, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	r := &Recipe{}
	if err := d.Decode(r); err != nil {
		return nil, &tensor.FormatError{Offset: d.InputOffset(), Field: "recipe", Err: err}
	}
	return r, r.check()
}

func (r *Recipe) check() error {
	bad := func(field, format string, a ...any) error {
		return &tensor.FormatError{Offset: -1, Field: "recipe: " + field, Err: fmt.Errorf(format, a...)}
	}
	if r.Name == "" || strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || strings.HasPrefix(r.Name, ".") {
		return bad("name", "%q: want letters, digits, '-', '_' and '.', not starting with '.'", r.Name)
	}
	for _, c := range []struct {
		field, value string
		known        []string
	}{
		{"target", r.Target, []string{"base", "cpu", "cuda", "tensorrt", "coreml"}},
		{"precision", r.Precision, []string{"fp32", "fp16", "int8", "int4"}},
		{"dialect", r.Dialect, []string{"fused", "standard", "qdq", "static"}},
		{"activations", r.Activations, []string{"float32", "float16"}},
		{"calibration", r.Calibration, []string{"", "probe", "text"}},
		{"kv_cache", r.KVCache, []string{"", "int8"}},
	} {
		if !slices.Contains(c.known, c.value) {
			return bad(c.field, "%q: choose %s", c.value, strings.Join(c.known, ", "))
		}
	}
	if r.AccuracyLevel < 0 || r.AccuracyLevel > 4 {
		return bad("accuracy_level", "%d: want 0 to 4", r.AccuracyLevel)
	}
	if r.Opset != 0 && (r.Opset < 21 || r.Opset > 24) {
		return bad("opset", "%d: want 21 to 24", r.Opset)
	}
	for _, op := range r.Operators {
		switch {
		case !slices.Contains(newer, op):
			return bad("operators", "%q: choose %s", op, strings.Join(newer, ", "))
		case r.Dialect != "qdq":
			return bad("operators", "%q is for the qdq dialect", op)
		case r.Opset < 23:
			return bad("operators", "%q needs opset 23", op)
		}
	}
	if r.FixedDecode && r.Dialect != "fused" {
		return bad("fixed_decode", "it is for the fused dialect")
	}
	if r.Context < 0 || r.Context != 0 && r.Dialect != "static" && !r.FixedDecode {
		return bad("context", "%d: a positive number, for caches of fixed length alone", r.Context)
	}
	if r.Prefill < 0 || r.Prefill != 0 && r.Dialect != "static" {
		return bad("prefill", "%d: a positive number, for the static dialect alone", r.Prefill)
	}
	if r.KVCache != "" && r.Dialect != "fused" {
		return bad("kv_cache", "%q wants the fused dialect", r.KVCache)
	}
	for name, g := range r.Fold {
		if _, ok := calibrate.ParseInput(name); !ok && name != "all" {
			return bad("fold", "input %q: choose all, qkv, o, gate_up, down", name)
		}
		m, ok := foldMethods[g.Method]
		if !ok {
			return bad("fold", "%s: method %q: choose awq, smoothquant, none", name, g.Method)
		}
		if g.Search {
			if m != calibrate.AWQ || g.Alpha != 0 {
				return bad("fold", "%s: search is for awq, without an alpha", name)
			}
			continue
		}
		if m != calibrate.NoFold && !(g.Alpha > 0 && g.Alpha < 1) {
			return bad("fold", "%s: alpha %g: want a number between 0 and 1", name, g.Alpha)
		}
	}
	if len(r.Fold) > 0 && r.Calibration == "" {
		return bad("fold", "a fold needs a calibration: probe or text")
	}
	for i, rule := range r.Rules {
		field := fmt.Sprintf("rules[%d]", i)
		for _, name := range rule.Roles {
			role, ok := arch.ParseRole(name)
			if !ok || !role.IsMatrix() {
				return bad(field, "role %q: choose embed, q, k, v, o, gate, up, down, head", name)
			}
		}
		if _, err := parseLayers(rule.Layers, 1); err != nil {
			return bad(field, "%w", err)
		}
		if _, err := rule.form(r); err != nil {
			return bad(field, "%w", err)
		}
	}
	if len(r.Rules) == 0 || len(r.Rules[0].Roles) != 0 || (r.Rules[0].Layers != "" && r.Rules[0].Layers != "all") {
		return bad("rules", "the first rule must name no roles and no layers: it is the default")
	}
	return nil
}

// newer are the operators that [Recipe.Operators] may name.
var newer = []string{"Attention", "RMSNormalization", "RotaryEmbedding"}

// Uses reports whether the recipe asks for a newer operator.
func (r *Recipe) Uses(operator string) bool { return slices.Contains(r.Operators, operator) }

// linear reports whether matrices are stored for DequantizeLinear.
func (r *Recipe) linear() bool { return r.Dialect == "qdq" || r.Dialect == "static" }

var foldMethods = map[string]calibrate.Method{
	"none": calibrate.NoFold, "awq": calibrate.AWQ, "smoothquant": calibrate.SmoothQuant,
}

// FoldOptions is the recipe's fold.
func (r *Recipe) FoldOptions() calibrate.FoldOptions {
	var o calibrate.FoldOptions
	for i := range calibrate.Input(calibrate.Inputs) {
		g, ok := r.Fold[i.String()]
		if !ok {
			g = r.Fold["all"]
		}
		o[i] = calibrate.Gain{Method: foldMethods[g.Method], Alpha: g.Alpha, Search: g.Search}
	}
	return o
}

// FoldText describes the fold for metadata, "" where there is none.
func (r *Recipe) FoldText() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Fold)) {
		switch g := r.Fold[name]; {
		case g.Search:
			parts = append(parts, fmt.Sprintf("%s by %s, exponent searched for each layer", name, g.Method))
		case g.Method != "none":
			parts = append(parts, fmt.Sprintf("%s by %s, exponent %g", name, g.Method, g.Alpha))
		}
	}
	return strings.Join(parts, "; ")
}

// form maps a rule of a recipe to a stored form.
func (r Rule) form(rec *Recipe) (plan.Form, error) {
	if r.Input != "" {
		switch {
		case r.Input != "int8":
			return plan.Form{}, fmt.Errorf("input %q: choose int8", r.Input)
		case r.Bits != 8 || r.Block != 0:
			return plan.Form{}, fmt.Errorf("input %q is for weights of 8 bits with one scale a row", r.Input)
		case rec.Dialect == "fused" && rec.Target == "cpu" && rec.Activations == "float32":
			// The steps are found at run time.
		case rec.Dialect != "qdq":
			return plan.Form{}, fmt.Errorf("input %q is for the qdq dialect, and for the fused one on the CPU with float32 activations", r.Input)
		case rec.Calibration != "text":
			return plan.Form{}, fmt.Errorf("input %q needs the ranges that calibration text gives", r.Input)
		}
	}
	switch r.Bits {
	case 32:
		return plan.Form{Float: tensor.F32}, nil
	case 16:
		return plan.Form{Float: tensor.F16}, nil
	}
	f := plan.Form{Bits: r.Bits, Block: r.Block, Symmetric: r.Symmetric, Scale: tensor.F16, Int8Input: r.Input == "int8"}
	switch {
	case rec.linear():
		// TensorRT refuses scales that are not above zero.
		f.Linear, f.Symmetric, f.Positive = true, true, rec.Target == "tensorrt"
		if f.Block == plan.AutoBlock && f.Bits == 8 {
			return f, fmt.Errorf("block %d: choose a length for 8 bits", f.Block)
		}
		if f.Block == 0 && f.Bits == 4 {
			f.Block = plan.AutoBlock
		}
		f.Offsets = r.Offsets
	case f.Int8Input:
		f.Linear, f.Symmetric, f.Columns = true, true, true
	case f.Block == 0:
		f.Block = 32
	}
	switch r.Method {
	case "", "search":
		f.Method = matmulnbits.Search
	case "rtn":
		f.Method = matmulnbits.RTN
	default:
		return f, fmt.Errorf("method %q: choose search or rtn", r.Method)
	}
	switch r.Scales {
	case "", "f16":
	case "f32":
		f.Scale = tensor.F32
	default:
		return f, fmt.Errorf("scales %q: choose f16 or f32", r.Scales)
	}
	if r.Offsets && (rec.Dialect != "qdq" || r.Bits != 4) {
		return f, fmt.Errorf("offsets are for blocks of 4 bits in the qdq dialect")
	}
	if r.Bits != 4 && r.Bits != 8 && (r.Bits != 2 || f.Linear) {
		return f, fmt.Errorf("bits %d: choose 2 (fused dialect), 4, 8, 16 or 32", r.Bits)
	}
	if f.Linear {
		o := f.LinearOptions()
		if f.Block == plan.AutoBlock {
			o.Block = 64
		}
		return f, o.Check(256)
	}
	o := f.Options()
	if f.Block == plan.AutoBlock {
		o.Block = 32
	}
	return f, o.Scheme().Check()
}

// Form says how a weight of a model with so many layers is stored. A tied
// embedding is asked for as the head, whose role decides for both.
func (r *Recipe) Form(role arch.Role, layer, layers int) plan.Form {
	var form plan.Form
	for _, rule := range r.Rules {
		if len(rule.Roles) > 0 && !slices.Contains(rule.Roles, role.String()) {
			continue
		}
		in, err := parseLayers(rule.Layers, layers)
		if err != nil || (layer >= 0 && !in(layer)) {
			continue
		}
		if f, err := rule.form(r); err == nil { // checked by Parse
			form = f
		}
	}
	return form
}

// parseLayers compiles a layer list.
func parseLayers(s string, layers int) (func(int) bool, error) {
	switch s {
	case "", "all":
		return func(int) bool { return true }, nil
	case "more":
		return func(l int) bool { return moreBits(l, layers) }, nil
	}
	set := map[int]bool{}
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(lo)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(hi)
		}
		if err != nil || a < 0 || b < a || b > 4096 {
			return nil, fmt.Errorf("layers %q: want all, more, or a list such as 0,1,27-29", s)
		}
		for l := a; l <= b; l++ {
			set[l] = true
		}
	}
	return func(l int) bool { return set[l] }, nil
}

// moreBits is llama.cpp's use_more_bits: the first and last eighth of the
// layers and every third between (src/llama-quant.cpp).
func moreBits(l, n int) bool { return l < n/8 || l >= 7*n/8 || (l-n/8)%3 == 2 }
