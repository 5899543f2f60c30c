package convert

import (
	"fmt"
	"path"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// GGUF asks for GGUF files.
type GGUF struct {
	// Types are the mixtures to write, a file (or split file) each.
	Types []togguf.FileType
	// Overrides, Importance, SplitTensors and SplitBytes as in togguf.Options.
	Overrides    []togguf.Override
	Importance   *togguf.Imatrix
	SplitTensors int
	SplitBytes   int64
}

// ggufFolder holds a folder for each type.
const ggufFolder = "gguf"

// addGGUF plans the file of one type and enters its pieces into the reads.
func (j *Job) addGGUF(t togguf.FileType, reads map[string]*plan.Read) error {
	g := j.opts.GGUF
	art, err := togguf.Build(j.Spec, togguf.Options{
		Type: t, Overrides: g.Overrides, Importance: g.Importance,
		SplitTensors: g.SplitTensors, SplitBytes: g.SplitBytes,
		ID: j.ck.ID(), Config: j.ck.Config(), Source: j.ck.GGUF(),
		File: func(name string) ([]byte, error) {
			f, ok := j.ck.SupportFile(name)
			if !ok {
				return nil, nil
			}
			return f.Data()
		},
	})
	if err != nil {
		return err
	}
	dir := path.Join(ggufFolder, t.String())
	rec := &recipe.Recipe{
		Name: t.String(), Target: "llama.cpp", Precision: t.String(), Activations: "float32",
		Summary: fmt.Sprintf("GGUF for llama.cpp, %v", t),
	}
	a := &Artifact{Dir: dir, Recipe: rec}
	pa := &plan.Artifact{Dir: dir, Data: art.Data}
	a.Metadata = j.ggufMetadata(rec, art)
	if err := j.enter(wanted{dir: dir, Recipe: rec}, art.Pieces, reads); err != nil {
		return err
	}
	j.Plan.Artifacts = append(j.Plan.Artifacts, pa)
	j.Artifacts = append(j.Artifacts, a)
	return nil
}

// ggufMetadata states what is known when the plan is made.
func (j *Job) ggufMetadata(r *recipe.Recipe, art *togguf.Artifact) modeldir.Metadata {
	m := j.fileMetadata("gguf", "llama.cpp", r, art.Pieces, art.Data.Size)
	if g := j.opts.GGUF.Importance; g != nil {
		m.Target.Calibration = "importance matrix " + path.Base(g.File)
	}
	return m
}

// fileMetadata is what formats with runtimes of their own have in common.
func (j *Job) fileMetadata(format, runs string, r *recipe.Recipe, pieces []plan.Piece, bytes int64) modeldir.Metadata {
	bits, floor := storedBits(pieces)
	parameters := float64(j.Spec.Parameters())
	return modeldir.Metadata{
		SchemaVersion: modeldir.MetadataVersion,
		Tool:          modeldir.Tool{Name: ToolName, Version: Version},
		Target: modeldir.TargetSpecs{
			Format: format, ExecutionProvider: runs, Target: r.Target,
			Precision: r.Precision, Recipe: r.Name, ActivationType: r.Activations,
			RanOnDevice: "not run on the device",
		},
		Source:       modeldir.Source{ID: j.ck.ID(), Format: j.ck.Format(), Revision: j.ck.Revision()},
		Architecture: architecture(j.Spec),
		Hints:        j.hints(r),
		Bits:         bits,
		Size: modeldir.Size{
			WeightBytes: bytes, BitsPerWeight: float64(bytes) * 8 / parameters, BitsPerWeightFloor: floor / parameters,
		},
	}
}

// storedBits says what became of the matrices, and adds up the bits of all
// weights without padding and headers.
func storedBits(pieces []plan.Piece) (bits []modeldir.RoleBits, floor float64) {
	at := map[string]int{} // places in bits by role and form
	count := map[string]int{}
	for _, p := range pieces {
		n, _ := p.Weight.Shape.Elements()
		floor += float64(n) * p.Output.Form.FloorBits(0)
		if !p.Weight.Role.IsMatrix() {
			continue
		}
		role, scheme := p.Weight.Role.String(), p.Output.Form.String()
		i, ok := at[role+" "+scheme]
		if !ok {
			i = len(bits)
			at[role+" "+scheme] = i
			count[role]++
			bits = append(bits, modeldir.RoleBits{Role: role, Bits: p.Output.Form.ElementBits(), Scheme: scheme})
		}
		if p.Weight.Layer >= 0 {
			bits[i].Layers = append(bits[i].Layers, p.Weight.Layer)
		}
	}
	for i := range bits {
		if count[bits[i].Role] == 1 {
			bits[i].Layers = nil // the same in all
		}
	}
	return bits, floor
}

// architecture holds the facts a reader of metadata wants at hand.
func architecture(s *arch.Spec) modeldir.Architecture {
	a := modeldir.Architecture{
		Name: s.Architecture, ModelType: s.ModelType, Hidden: s.Hidden, Intermediate: s.Intermediate,
		Layers: s.Layers, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim, Vocab: s.Vocab,
		MaxContext: s.MaxContext, RoPETheta: s.RoPE.Theta, NormEps: float64(s.NormEps),
		TiedEmbedding: s.Tied, Parameters: s.Parameters(),
	}
	if s.RoPE.Type != "default" {
		a.RoPEScaling = s.RoPE.Type
	}
	return a
}
