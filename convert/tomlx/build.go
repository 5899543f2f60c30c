package tomlx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Artifact is one planned folder.
type Artifact struct {
	Data   plan.DataFile
	Files  []plan.File // sorted by name
	Pieces []plan.Piece
	// Options are those given, with defaults filled in.
	Options Options
}

// stored is one tensor of the output.
type stored struct {
	decl    safetensors.Decl
	bytes   int64
	regions []*plan.Region // of the pieces it is made of, one behind the other
	rows    []int          // of each
}

// Build plans one folder.
func Build(spec *arch.Spec, o Options) (*Artifact, error) {
	if err := o.fill(spec); err != nil {
		return nil, err
	}
	a := &Artifact{Options: o}
	weights := spec.Weights()
	a.Pieces = make([]plan.Piece, len(weights))
	type key struct {
		role  arch.Role
		layer int
	}
	stacked := map[key]int{} // places of tensors that hold all experts
	var tensors []stored
	for i, w := range weights {
		a.Pieces[i] = plan.Piece{Weight: w, Output: plan.Output{Form: o.form(spec, w)}}
		ts, err := tensorsOf(spec, w, &a.Pieces[i].Output)
		if err != nil {
			return nil, err
		}
		if w.Plus != 0 { // mlx-lm's models add it
			a.Pieces[i].Weight.Name = arch.AsStored + w.Name
		}
		at := len(tensors) - len(ts)
		switch {
		case w.Row > 0:
		case isExpert(w.Role) && w.Expert > 0:
			at = stacked[key{w.Role, w.Layer}]
		default:
			stacked[key{w.Role, w.Layer}] = len(tensors)
			tensors = append(tensors, ts...)
			continue
		}
		last := tensors[at:]
		for k, t := range ts {
			last[k].regions, last[k].rows = append(last[k].regions, t.regions...), append(last[k].rows, t.rows...)
		}
	}
	index, err := a.layOut(tensors, spec.Parameters())
	if err != nil {
		return nil, err
	}
	config, err := o.config(spec, a.Pieces)
	if err != nil {
		return nil, err
	}
	a.Files = []plan.File{
		{Name: "config.json", Data: config}, {Name: safetensors.IndexName, Data: index}, {Name: cardName, Data: o.card()},
	}
	for _, f := range o.Support {
		if f.Name != cardName {
			a.Files = append(a.Files, f)
		}
	}
	slices.SortFunc(a.Files, func(x, y plan.File) int { return strings.Compare(x.Name, y.Name) })
	return a, nil
}

// tensorsOf lists what a weight becomes, as nn.QuantizedLinear and
// nn.QuantizedEmbedding name it; the first of a packed tensor's parts stands for
// all of it.
func tensorsOf(spec *arch.Spec, w arch.Weight, out *plan.Output) ([]stored, error) {
	f := out.Form
	rows, cols := 1, w.Shape[len(w.Shape)-1]
	for _, d := range w.Shape[:len(w.Shape)-1] {
		rows *= d
	}
	part := rows
	switch {
	case isExpert(w.Role):
		w.Name = modulePath(w) + ".weight"
		w.Shape = append(tensor.Shape{spec.Experts}, w.Shape...)
		rows *= spec.Experts
	case w.Stored != "" && w.Row == 0:
		w = arch.StoredAs([]arch.Weight{w})[0]
		rows = w.Shape[0]
	}
	data, scales, _ := f.RowBytes(cols)
	out.Data.RowBytes = data
	one := func(d safetensors.Decl, rowBytes int, r *plan.Region) stored {
		return stored{d, int64(rows) * int64(rowBytes), []*plan.Region{r}, []int{part}}
	}
	if !f.Affine {
		return []stored{one(safetensors.Decl{Name: w.Name, Type: f.Float.String(), Shape: w.Shape}, data, &out.Data)}, nil
	}
	path, ok := strings.CutSuffix(w.Name, ".weight")
	if !ok {
		return nil, fmt.Errorf("matrix %q has no name that ends in .weight", w.Name)
	}
	out.Scales.RowBytes, out.Zeros.RowBytes = scales, scales
	shape := func(last int) tensor.Shape {
		s := slices.Clone(w.Shape)
		s[len(s)-1] = last
		return s
	}
	groups := shape(cols / f.Block)
	return []stored{
		one(safetensors.Decl{Name: w.Name, Type: "U32", Shape: shape(cols * f.Bits / 32)}, data, &out.Data),
		one(safetensors.Decl{Name: path + ".scales", Type: f.Scale.String(), Shape: groups}, scales, &out.Scales),
		one(safetensors.Decl{Name: path + ".biases", Type: f.Scale.String(), Shape: groups}, scales, &out.Zeros),
	}, nil
}

func isExpert(r arch.Role) bool {
	return r == arch.ExpertGate || r == arch.ExpertUp || r == arch.ExpertDown
}

// modulePath is the path of the module that holds a matrix: mlx-lm stacks the
// experts of a layer.
func modulePath(w arch.Weight) string {
	if isExpert(w.Role) {
		layer, _, _ := strings.Cut(w.Name, ".experts.")
		return layer + ".switch_mlp." + map[arch.Role]string{arch.ExpertGate: "gate_proj", arch.ExpertUp: "up_proj", arch.ExpertDown: "down_proj"}[w.Role]
	}
	return strings.TrimSuffix(arch.StoredAs([]arch.Weight{w})[0].Name, ".weight")
}

// modules lists the tensors of a float folder, by name and shape.
func modules(spec *arch.Spec) []arch.Weight {
	var out []arch.Weight
	for _, w := range arch.StoredAs(spec.Weights()) {
		if isExpert(w.Role) {
			if w.Expert > 0 {
				continue
			}
			w.Name, w.Shape = modulePath(w)+".weight", append(tensor.Shape{spec.Experts}, w.Shape...)
		}
		out = append(out, w)
	}
	return out
}

// layOut fills the weight files, one after the other as mlx-lm's make_shards
// does, and returns the index.
func (a *Artifact) layOut(tensors []stored, parameters int64) (index []byte, err error) {
	var shards [][]stored
	var bytes, total int64
	for _, t := range tensors {
		if len(shards) == 0 || bytes+t.bytes > a.Options.ShardBytes {
			shards, bytes = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
		bytes += t.bytes
		total += t.bytes
	}
	files := map[string]string{}
	for i, shard := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		decls := make([]safetensors.Decl, len(shard))
		for k, t := range shard {
			decls[k] = t.decl
			files[t.decl.Name] = name
		}
		header, infos, err := safetensors.Layout(decls, map[string]string{"format": "mlx"})
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", name, err)
		}
		start := a.Data.Size
		a.Data.Consts = append(a.Data.Consts, plan.Const{Name: "header of " + name, Offset: start, Data: header})
		a.Data.Size += int64(len(header))
		for k, info := range infos {
			at := start + info.Offset
			for i, r := range shard[k].regions {
				r.Offset = at
				at += int64(shard[k].rows[i]) * int64(r.RowBytes)
			}
			a.Data.Size = start + info.Offset + info.Bytes
		}
		a.Data.Parts = append(a.Data.Parts, plan.Part{Name: name, Offset: start, Size: a.Data.Size - start})
	}
	a.Data.Name = a.Data.Parts[0].Name
	return encode(map[string]any{
		"metadata":   map[string]int64{"total_size": total, "total_parameters": parameters},
		"weight_map": files,
	})
}

// supportFile finds one of the files that go along.
func (o Options) supportFile(name string) []byte {
	for _, f := range o.Support {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// endTokens are generation_config.json's, which mlx-lm prefers to config.json's.
func (o Options) endTokens() (any, bool) {
	b := o.supportFile(modeldir.GenerationConfigFile)
	if b == nil {
		return nil, false
	}
	var g struct {
		EOS any `json:"eos_token_id"`
	}
	if err := decode(b, &g); err != nil || g.EOS == nil {
		return nil, false
	}
	return g.EOS, true
}
