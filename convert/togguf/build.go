package togguf

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"regexp"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options say what file to make of a model.
type Options struct {
	Type FileType
	// Overrides name types of their own for some matrices.
	Overrides []Override
	// Importance weighs the columns of the matrices; may be nil.
	Importance *Imatrix
	// SplitTensors and SplitBytes, where positive, start a new file before one
	// would hold more tensors or tensor data than that (llama-gguf-split).
	SplitTensors int
	SplitBytes   int64

	// ID is the model's name, with its owner where one is known:
	// "HuggingFaceTB/SmolLM2-135M-Instruct".
	ID string
	// Config is the checkpoint's config.json.
	Config []byte
	// File reads a support file of the checkpoint by its name in a Hugging Face
	// folder; nil, nil where there is none.
	File func(name string) ([]byte, error)
	// Source is the file that a GGUF checkpoint was read from, whose tokenizer
	// and general keys are taken over; nil for other checkpoints.
	Source *gguf.Reader
}

func (o Options) read(name string) ([]byte, error) {
	if o.File == nil {
		return nil, nil
	}
	b, err := o.File(name)
	if err != nil {
		return nil, fmt.Errorf("read %s of the checkpoint: %w", name, err)
	}
	return b, nil
}

// Artifact is one planned model, in one file or several.
type Artifact struct {
	Data   plan.DataFile
	Pieces []plan.Piece
	// Types tells the type of every matrix, by its name in the file.
	Types map[string]ggml.Type
}

// Build plans one artifact.
func Build(spec *arch.Spec, o Options) (*Artifact, error) {
	f, ok := families[spec.Architecture]
	if !ok {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("architecture %q in GGUF", spec.Architecture)}
	}
	if f.check != nil {
		if err := f.check(spec); err != nil {
			return nil, err
		}
	}
	list, err := entries(spec)
	if err != nil {
		return nil, err
	}
	if o.Importance != nil && spec.Experts > 0 {
		return nil, &tensor.UnsupportedError{What: "an importance matrix of a mixture of experts"}
	}
	if err := o.Importance.check(spec); err != nil {
		return nil, err
	}
	head, err := o.keys(spec, f)
	if err != nil {
		return nil, err
	}
	a := &Artifact{Types: map[string]ggml.Type{}}
	mix := newMixture(spec, f.name, o)
	decls := make([]gguf.Decl, len(list))
	for i, e := range list {
		t := mix.typeOf(e.name, e.weight)
		decls[i] = gguf.Decl{Name: e.name, Type: t, Shape: e.weight.Shape}
		if e.weight.Role.IsMatrix() {
			a.Types[e.name] = t
		}
	}
	shards := o.split(decls)
	for i, n := range shards {
		part := plan.Part{Name: o.fileName(i, len(shards)), Offset: a.Data.Size}
		infos, err := a.addShard(head, decls[:n], i, len(shards), len(list))
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", part.Name, err)
		}
		for j, info := range infos {
			a.addTensor(spec, f, o, list[j], info, part.Offset)
		}
		part.Size = a.Data.Size - part.Offset
		a.Data.Parts = append(a.Data.Parts, part)
		decls, list = decls[n:], list[n:]
	}
	a.Data.Name = a.Data.Parts[0].Name
	return a, nil
}

// keys lists the keys of the (first) file.
func (o Options) keys(spec *arch.Spec, f family) (keys, error) {
	var k keys
	k.add("general.architecture", f.name)
	k.add("general.type", "model")
	if o.Source != nil {
		k.copied(o.Source, "general.", "general.file_type", "general.quantization_version", "general.alignment")
	} else if err := k.general(spec, o); err != nil {
		return nil, err
	}
	if err := k.model(spec, f); err != nil {
		return nil, err
	}
	k.add("general.file_type", uint32(o.Type))
	k.add("general.quantization_version", uint32(2))
	if o.Source != nil {
		k.copied(o.Source, "tokenizer.")
	} else if err := k.vocabulary(spec, f, o); err != nil {
		return nil, err
	}
	if m := o.Importance; m != nil {
		k.text("quantize.imatrix.file", path.Base(m.File))
		if len(m.Datasets) > 0 {
			k.text("quantize.imatrix.dataset", m.Datasets[0])
		}
		k.add("quantize.imatrix.entries_count", uint32(len(m.Entries)))
		if m.Chunks > 0 {
			k.add("quantize.imatrix.chunks_count", uint32(m.Chunks))
		}
	}
	return k, nil
}

// split says how many tensors each file gets.
func (o Options) split(decls []gguf.Decl) []int {
	var shards []int
	n, bytes := 0, int64(0)
	for _, d := range decls {
		elements, _ := d.Shape.Elements()
		size := d.Type.RowBytes(elements)
		if n > 0 && (o.SplitTensors > 0 && n >= o.SplitTensors || o.SplitBytes > 0 && bytes+size > o.SplitBytes) {
			shards = append(shards, n)
			n, bytes = 0, 0
		}
		n, bytes = n+1, bytes+size
	}
	return append(shards, n)
}

// fileName is NAME-TYPE.gguf, or of several files NAME-TYPE-00001-of-00003.gguf.
func (o Options) fileName(i, shards int) string {
	name := Stem(o.ID) + "-" + o.Type.String()
	if shards > 1 {
		name += fmt.Sprintf("-%05d-of-%05d", i+1, shards)
	}
	return name + ".gguf"
}

// shardSuffix and typeSuffix are what names of GGUF files end in.
var (
	shardSuffix = regexp.MustCompile(`-\d{5}-of-\d{5}$`)
	typeSuffix  = regexp.MustCompile(`(?i)[-._](i?q\d(_\w+)*|b?f(16|32)|fp(16|32))$`)
)

// Stem is the part of file names that the model's name gives.
func Stem(id string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`<>:"/\|?*`, r) {
			return '_'
		}
		return r
	}, id[strings.LastIndexByte(id, '/')+1:])
	name = typeSuffix.ReplaceAllString(shardSuffix.ReplaceAllString(name, ""), "")
	return cmp.Or(strings.Trim(name, " ."), "model")
}

// addShard lays out one file behind those before.
func (a *Artifact) addShard(head keys, decls []gguf.Decl, i, shards, tensors int) ([]gguf.Info, error) {
	w := gguf.NewWriter(nil, gguf.WriterOptions{})
	if i == 0 {
		for _, k := range head {
			if v, ok := k.value.(gguf.Value); ok {
				w.Copy(v)
			} else {
				w.Set(k.name, k.value)
			}
		}
	}
	if shards > 1 {
		if shards > math.MaxUint16 {
			return nil, fmt.Errorf("%d files are more than the format counts", shards)
		}
		w.Set("split.no", uint16(i))
		w.Set("split.count", uint16(shards))
		w.Set("split.tensors.count", int32(tensors))
	}
	for _, d := range decls {
		w.Declare(d)
	}
	header, infos, err := w.Layout()
	if err != nil {
		return nil, err
	}
	a.Data.Consts = append(a.Data.Consts, plan.Const{Name: "header", Offset: a.Data.Size, Data: header})
	a.Data.Size += int64(len(header))
	if n := len(infos); n > 0 {
		const alignment = 32
		end := infos[n-1].Offset + infos[n-1].Bytes
		a.Data.Size += (end+alignment-1)/alignment*alignment - int64(len(header))
	}
	return infos, nil
}

// addTensor says where the elements of a tensor come from and go to.
func (a *Artifact) addTensor(spec *arch.Spec, f family, o Options, e entry, info gguf.Info, base int64) {
	at := base + info.Offset
	if e.values != nil {
		data := make([]byte, info.Bytes)
		tensor.EncodeF32(data, e.values)
		a.Data.Consts = append(a.Data.Consts, plan.Const{Name: e.name, Offset: at, Data: data})
		return
	}
	for _, w := range e.parts {
		rowBytes := int(info.Type.RowBytes(int64(w.Shape[len(w.Shape)-1])))
		row := int64(w.Row)
		if isExpert(w.Role) {
			row = int64(w.Expert) * int64(w.Shape[0])
		}
		p := plan.Piece{Weight: w, Output: plan.Output{
			Form:       form(info.Type),
			Interleave: f.headDim(spec, w.Role),
			Data:       plan.Region{Offset: at + row*int64(rowBytes), RowBytes: rowBytes},
		}}
		if info.Type.UsesImportance() {
			p.Output.Importance = o.Importance.of(e.name)
		}
		a.Pieces = append(a.Pieces, p)
	}
}

// form is a stored type as the plan names it.
func form(t ggml.Type) plan.Form {
	switch t {
	case ggml.F32:
		return plan.Form{Float: tensor.F32}
	case ggml.F16:
		return plan.Form{Float: tensor.F16}
	case ggml.BF16:
		return plan.Form{Float: tensor.BF16}
	}
	return plan.Form{GGML: t}
}
