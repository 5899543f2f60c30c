package convert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// providers are ONNX Runtime's names of the execution providers.
var providers = map[string]string{
	"base": "any", "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider",
	"tensorrt": "TensorrtExecutionProvider", "coreml": "CoreMLExecutionProvider",
}

// bodyForm is how a recipe stores the first layer's query projection, which
// speaks for most of the matrices.
func (j *Job) bodyForm(r *recipe.Recipe) plan.Form {
	for _, w := range j.Spec.Weights() {
		if w.Role == arch.AttnQ {
			return toonnx.Form(j.Spec, r, w)
		}
	}
	return plan.Form{}
}

// metadata states what is known when the plan is made; hashes and fidelity
// come later.
func (j *Job) metadata(a *Artifact, pa *plan.Artifact, graphBytes int64) modeldir.Metadata {
	s, r := j.Spec, a.Recipe
	body := j.bodyForm(r)
	provider := providers[r.Target]
	m := modeldir.Metadata{
		SchemaVersion: modeldir.MetadataVersion,
		Tool:          modeldir.Tool{Name: ToolName, Version: Version},
		Target: modeldir.TargetSpecs{
			Format: "onnx", ExecutionProvider: provider, Target: r.Target,
			Precision: r.Precision, Recipe: r.Name,
			Opset: int(toonnx.OpsetOf(r)), MinORTVersion: toonnx.MinORTVersion,
			ActivationType: r.Activations, IntegerInputs: integerInputs(s, r), Dialect: r.Dialect, RanOnDevice: "not run on the device",
		},
		Source:       modeldir.Source{ID: j.ck.ID(), Format: j.ck.Format(), Revision: j.ck.Revision()},
		Architecture: architecture(s),
		Hints:        j.hints(r),
		Bits:         roleBits(s, r),
		Size: modeldir.Size{
			WeightBytes: pa.Data.Size, GraphBytes: graphBytes,
			BitsPerWeight: float64(pa.Data.Size) * 8 / float64(s.Parameters()),
		},
	}
	m.Size.BitsPerWeightFloor, m.Size.BodyBitsPerWeight = floor(s, r)
	if !body.IsFloat() {
		m.Target.BlockLength, m.Target.Symmetric, m.Target.ScaleType = body.Block, body.Symmetric, body.Scale.String()
	}
	for _, f := range pa.Files {
		if f.Name == modeldir.PrefillFile {
			m.Target.Prefill = f.Name
		}
	}
	return m
}

func (j *Job) hints(r *recipe.Recipe) modeldir.Hints {
	h := modeldir.Hints{
		AttentionType: "gqa", GQARatio: j.Spec.Heads / j.Spec.KVHeads,
		MaxContext: j.Spec.MaxContext, Batch: 1, KVCache: cmp.Or(r.KVCache, r.Activations), Logits: "last",
	}
	switch j.Spec.KVHeads {
	case j.Spec.Heads:
		h.AttentionType = "mha"
	case 1:
		h.AttentionType = "mqa"
	}
	if c := j.opts.MaxContext; c > 0 && c < h.MaxContext {
		h.MaxContext = c
	}
	if j.opts.AllLogits {
		h.Logits = "all"
	}
	h.CacheForm = string(cacheForms[r.Dialect])
	if r.Dialect == "static" || r.FixedDecode {
		h.Context = toonnx.Context(r, toonnx.Options{MaxContext: toonnx.MaxContext(j.Spec, r, h.MaxContext)})
		h.MaxContext = h.Context
	}
	if r.Dialect == "static" {
		h.PrefillChunk = toonnx.PrefillTokens(r)
	}
	return h
}

// roleBits lists the form of every matrix role, by groups of layers where they
// differ.
func roleBits(s *arch.Spec, r *recipe.Recipe) []modeldir.RoleBits {
	var out []modeldir.RoleBits
	roles := []arch.Role{arch.TokenEmbd, arch.AttnQ, arch.AttnK, arch.AttnV, arch.AttnO, arch.FFNGate, arch.FFNUp, arch.FFNDown, arch.LMHead}
	byRole := map[arch.Role][]arch.Weight{}
	for _, w := range s.Weights() {
		byRole[w.Role] = append(byRole[w.Role], w)
	}
	if s.Tied {
		w := byRole[arch.TokenEmbd][0]
		w.Role = arch.LMHead
		byRole[arch.LMHead] = []arch.Weight{w}
	}
	for _, role := range roles {
		groups := map[plan.Form][]int{}
		var order []plan.Form
		for _, w := range byRole[role] {
			f := toonnx.Form(s, r, w)
			if groups[f] == nil {
				order = append(order, f)
			}
			groups[f] = append(groups[f], w.Layer)
		}
		for _, f := range order {
			rb := modeldir.RoleBits{Role: role.String(), Bits: f.ElementBits(), Scheme: f.String()}
			if len(order) > 1 {
				rb.Layers = groups[f]
			}
			out = append(out, rb)
		}
	}
	return out
}

// floor is the bits per weight that the recipe's forms need without padding,
// tables and alignment; body is that of the layers' matrices alone.
func floor(s *arch.Spec, r *recipe.Recipe) (whole, body float64) {
	var bits, n, bodyBits, bodyN float64
	for _, w := range s.Weights() {
		e, _ := w.Shape.Elements()
		per := 32.0
		if w.Role.IsMatrix() {
			per = toonnx.Form(s, r, w).FloorBits(w.Shape[1])
		}
		bits += per * float64(e)
		n += float64(e)
		if w.Role.IsMatrix() && w.Layer >= 0 {
			bodyBits += per * float64(e)
			bodyN += float64(e)
		}
	}
	return bits / n, bodyBits / bodyN
}

// SetSelfTest adds selftest.json to the staged artifact i.
func (j *Job) SetSelfTest(i int, s *modeldir.SelfTest) error {
	if err := s.Write(j.Staged(i)); err != nil {
		return fmt.Errorf("add a self-test to %s: %w", j.Artifacts[i].Dir, err)
	}
	j.Artifacts[i].added = append(j.Artifacts[i].added, modeldir.SelfTestFile)
	return nil
}

// WriteMetadata hashes the staged files and the sources and writes each
// artifact's metadata.json. Call it after [Job.Write], and after verify has
// filled in the fidelity of the artifacts.
func (j *Job) WriteMetadata(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(j.opts.Workers)
	sources := make([]modeldir.FileRecord, len(j.ck.SourceFiles()))
	for i, f := range j.ck.SourceFiles() {
		g.Go(func() error {
			sum, err := f.SHA256(ctx)
			sources[i] = modeldir.FileRecord{Name: f.Name, Bytes: f.Bytes, SHA256: sum}
			return err
		})
	}
	records := make([][]modeldir.FileRecord, len(j.Artifacts))
	for i, a := range j.Artifacts {
		if a.Reference {
			continue
		}
		pa := j.Plan.Artifacts[i]
		var names []string
		for _, f := range pa.Data.Files() {
			names = append(names, f.Name)
		}
		for _, f := range pa.Files {
			names = append(names, f.Name)
		}
		names = append(names, a.added...)
		slices.Sort(names)
		records[i] = make([]modeldir.FileRecord, len(names))
		for k, name := range names {
			g.Go(func() (err error) {
				records[i][k], err = fileRecord(ctx, j.Staged(i), name)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, a := range j.Artifacts {
		if a.Reference {
			continue
		}
		a.Metadata.Source.Files, a.Metadata.Files = sources, records[i]
		if a.Recipe.Calibration != "" && j.stats != nil {
			a.Metadata.Target.Calibration = j.stats.Source
			if fold := a.Recipe.FoldText(); fold != "" && !j.keepsBlocks(a) {
				a.Metadata.Target.Calibration += "; folded: " + fold
			}
		}
		b, err := json.MarshalIndent(a.Metadata, "", "  ")
		if err != nil {
			return fmt.Errorf("encode metadata of %s: %w", a.Dir, err)
		}
		if err := writeFile(filepath.Join(j.Staged(i), modeldir.MetadataFile), append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func fileRecord(ctx context.Context, dir, name string) (modeldir.FileRecord, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return modeldir.FileRecord{}, fmt.Errorf("hash %s: %w", name, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, contextReader{ctx, f}, make([]byte, 256<<10))
	if err != nil {
		return modeldir.FileRecord{}, fmt.Errorf("hash %s: %w", f.Name(), err)
	}
	return modeldir.FileRecord{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// contextReader stops a long read when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
