package convert

import (
	"fmt"
	"path"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/tomlx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// MLX asks for folders for mlx-lm.
type MLX struct {
	// Folders are the ones to write: bits, group, recipe, type and shard size
	// count; the rest is the checkpoint's.
	Folders []tomlx.Options
}

// mlxFolder holds a folder for each.
const mlxFolder = "mlx"

// addMLX plans one folder and enters its pieces into the reads.
func (j *Job) addMLX(o tomlx.Options, reads map[string]*plan.Read) error {
	support, err := j.checkpointFiles()
	if err != nil {
		return err
	}
	dir := path.Join(mlxFolder, o.Name())
	o.ID, o.Config, o.Support, o.Tool, o.Version = j.ck.ID(), j.ck.Config(), support, ToolName, Version
	if o.Type == tensor.Invalid {
		o.Type = j.floatType()
	}
	art, err := tomlx.Build(j.Spec, o)
	if err != nil {
		return err
	}
	o = art.Options
	rec := &recipe.Recipe{
		Name: path.Base(dir), Target: "mlx", Precision: o.Precision(), Activations: strings.ToLower(o.Type.String()),
		Summary: "for mlx-lm, " + o.Summary(),
	}
	a := &Artifact{Dir: dir, Recipe: rec, Metadata: j.mlxMetadata(rec, art)}
	if err := j.enter(wanted{dir: dir, Recipe: rec}, art.Pieces, reads); err != nil {
		return err
	}
	j.Plan.Artifacts = append(j.Plan.Artifacts, &plan.Artifact{Dir: dir, Files: art.Files, Data: art.Data})
	j.Artifacts = append(j.Artifacts, a)
	return nil
}

// floatType is the type of a model's own numbers where its configuration is not
// to be asked: where it names none, that of the stored embedding; where that is
// in ggml's blocks, bfloat16. (Configurations made from GGUF files then say
// float16, which many models overflow; what bfloat16 rounds away is far below
// the blocks' error.)
func (j *Job) floatType() tensor.DType {
	for _, w := range j.Spec.Weights() {
		if w.Role != arch.TokenEmbd {
			continue
		}
		t, ok := j.ck.Tensor(w.Name)
		if !ok {
			return tensor.Invalid
		}
		d, plain := tensor.ParseDType(t.Type)
		switch {
		case !plain:
			return tensor.BF16
		case j.Spec.DType == "" && (d == tensor.F32 || d == tensor.F16):
			return d
		}
	}
	return tensor.Invalid
}

// mlxMetadata states what is known when the plan is made.
func (j *Job) mlxMetadata(r *recipe.Recipe, art *tomlx.Artifact) modeldir.Metadata {
	m := j.fileMetadata("mlx", "mlx-lm", r, art.Pieces, art.Data.Size)
	if art.Options.Quantizes() {
		m.Target.BlockLength, m.Target.ScaleType = art.Options.Group, fmt.Sprint(art.Options.Type)
	}
	return m
}
