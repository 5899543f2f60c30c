package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// The makers.
const (
	ours   = "llama-pajamas"
	genai  = "onnxruntime-genai"
	llama  = "llama.cpp"
	mlxlm  = "mlx-lm"
	ollama = "ollama"
)

// artifact is one quantized form of a sample.
type artifact struct {
	Maker string `json:"maker"`
	Name  string `json:"name"` // "int4", "k_quant_mixed", "Q4_K_M"

	path  string   // folder or file, once made
	args  []string // of genai's builder: precision, then extra options
	ftype int      // of llama_model_quantize, llama.h enum llama_ftype

	imatrix *imatrixOptions // llama.cpp: weighs by an importance matrix
	bits    float64         // ours: a recipe found for so many bits per weight
}

func (a *artifact) label() string { return a.Maker + " " + a.Name }

const (
	referenceName = "fp32" // of the artifact that everything is compared with
	baseName      = "base" // of onnx/base/fp16
)

// The baselines of the stories sample: rounding to nearest, with scales from
// each block's largest weight. All body weights have 4 bits and the head 8 in
// the first; the second has the bits of the recipe int4.
const (
	rtnName      = "rtn"
	rtnMixedName = "rtn-mixed"
)

// ourRecipes are the recipes of this module that a sample is measured with:
// all that are built in for the CPU but the reference, and base.
func ourRecipes(sample string) []string {
	names := slices.DeleteFunc(recipe.Builtin("cpu"), func(name string) bool { return name == referenceName })
	if sample == storiesSample {
		for _, name := range []string{rtnName, rtnMixedName} {
			names = append(names, filepath.Join("internal", "peers", "testdata", name+".json"))
		}
		return names
	}
	return append(names, baseName)
}

// budgetPrefix begins the "recipe" that convert --target-bits finds, such as
// bits=6.4.
const budgetPrefix = "bits="

// ourArtifacts are recipes by name or file, or budgets.
func ourArtifacts(recipes []string) []*artifact {
	var out []*artifact
	for _, r := range recipes {
		if text, ok := strings.CutPrefix(r, budgetPrefix); ok {
			if bits, err := strconv.ParseFloat(text, 64); err == nil {
				out = append(out, &artifact{Maker: ours, Name: fmt.Sprintf("int4-%.2f", bits), bits: bits})
				continue
			}
		}
		name := strings.TrimSuffix(filepath.Base(r), ".json")
		out = append(out, &artifact{Maker: ours, Name: name, args: []string{r}})
	}
	return out
}

// genaiArtifacts are the builder's recipes for the CPU. The last letters of a
// name say what differs from the default, symmetric blocks of 32.
func genaiArtifacts() []*artifact {
	make := func(name, precision string, options ...string) *artifact {
		return &artifact{Maker: genai, Name: name, args: append([]string{precision}, options...)}
	}
	return []*artifact{
		make("int4", "int4"),
		make("int4 asymmetric", "int4", "is_symmetric=false"),
		make("int4 rtn", "int4", "algo_config=rtn"),
		make("int4 rtn_last", "int4", "algo_config=rtn_last"),
		make("int4 k_quant", "int4", "algo_config=k_quant"),
		make("int4 k_quant_last", "int4", "algo_config=k_quant_last"),
		make("int4 k_quant_mixed", "int4", "algo_config=k_quant_mixed"),
		make("int4 k_quant_mixed b16", "int4", "algo_config=k_quant_mixed", "block_size=16"),
		make("int4 k_quant_mixed b64", "int4", "algo_config=k_quant_mixed", "block_size=64"),
		make("int4 default mixed", "int4", "algo_config=default", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"),
		make("int8", "int8"),
		make("int8 k_quant", "int8", "algo_config=k_quant"),
	}
}

// prunedArtifacts are as fast as genai's files can be: logits of the last
// position alone, as this module's own have it.
func prunedArtifacts() []*artifact {
	return []*artifact{
		{Maker: genai, Name: "int4 prune_lm_head", args: []string{"int4", "prune_lm_head=true"}},
		{Maker: genai, Name: "int8 prune_lm_head", args: []string{"int8", "prune_lm_head=true"}},
	}
}

// llamaArtifacts are llama.cpp's file types, without importance matrix.
func llamaArtifacts() []*artifact {
	make := func(name string, ftype int) *artifact { return &artifact{Maker: llama, Name: name, ftype: ftype} }
	return []*artifact{
		make("Q4_0", 2), make("Q4_1", 3), make("Q4_K_S", 14), make("Q4_K_M", 15),
		make("Q5_K_S", 16), make("Q5_K_M", 17), make("Q6_K", 18), make("Q8_0", 7),
	}
}

// imatrixSuffix ends the names of files made with an importance matrix.
const imatrixSuffix = " imatrix"

// imatrixArtifacts are file types with an importance matrix.
func imatrixArtifacts(o imatrixOptions) []*artifact {
	var out []*artifact
	for _, a := range llamaArtifacts() {
		switch a.Name {
		case "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K":
			a.Name, a.imatrix = a.Name+imatrixSuffix, &o
			out = append(out, a)
		}
	}
	return out
}

// workshop makes artifacts.
type workshop struct {
	dir      string // where they are kept
	python   string // of the bench environment
	llamaLib string // folder of the llama.cpp libraries
	program  string // this module's converter
	library  string // ONNX Runtime
	log      io.Writer
}

// convertOurs writes this module's artifacts of a sample as a user would, with
// the converter's defaults, always anew: they are what is being worked on. It
// sets their paths. After an error some may be there.
func (w *workshop) convertOurs(ctx context.Context, s *sample, list []*artifact) error {
	out := filepath.Join(w.dir, s.Name, "ours")
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	args := []string{"convert", "--quiet", "--model", s.HF, "--output", out, "--no-verify"}
	var recipes []string
	var budgets []*artifact
	base := false
	for _, a := range list {
		dir := "cpu/" + a.Name
		switch {
		case a.Name == baseName:
			base, dir = true, "base/fp16"
		case a.bits > 0:
			budgets = append(budgets, a)
		default:
			recipes = append(recipes, "--recipe", a.args[0])
		}
		a.path = filepath.Join(out, "onnx", filepath.FromSlash(dir))
	}
	for _, a := range budgets {
		bits := strconv.FormatFloat(a.bits, 'g', -1, 64)
		if err := w.command(ctx, w.program, append(args[:len(args):len(args)], "--no-base", "--target-eps", "cpu", "--target-bits", bits)...); err != nil {
			return err
		}
	}
	if !base && len(recipes) == 0 {
		return nil
	}
	if !base {
		args = append(args, "--no-base")
	}
	if len(recipes) > 0 {
		args = append(append(args, "--target-eps", "cpu"), recipes...)
	}
	return w.command(ctx, w.program, args...)
}

// convertReference writes the float32 artifact into a folder of its own, which
// remove removes.
func (w *workshop) convertReference(ctx context.Context, s *sample) (ref *artifact, remove func() error, err error) {
	out := filepath.Join(w.dir, s.Name, "reference")
	ref = &artifact{Maker: ours, Name: referenceName, path: filepath.Join(out, "onnx", "cpu", referenceName)}
	remove = func() error { return os.RemoveAll(out) }
	if err := remove(); err != nil {
		return nil, nil, err
	}
	ck, err := checkpoint.Open(ctx, s.HF, checkpoint.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, convert.Options{Output: out, NoBase: true,
		Targets: []convert.Target{{Name: "cpu", Recipes: []string{referenceName}}}})
	if err != nil {
		return nil, nil, err
	}
	if err = job.Write(ctx); err == nil {
		err = job.WriteMetadata(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, job.Discard())
	}
	return ref, remove, job.Publish()
}

// build makes a peer's artifact of a sample, unless it is kept from before,
// and sets its path.
func (w *workshop) build(ctx context.Context, s *sample, a *artifact) error {
	file := strings.NewReplacer(" ", "-", ".", "").Replace(a.label())
	a.path = filepath.Join(w.dir, s.Name, "peers", file)
	if a.Maker == llama {
		a.path += ".gguf"
	}
	var imatrix []string
	if a.imatrix != nil {
		file, err := w.imatrix(ctx, s, a.imatrix)
		if err != nil {
			return fmt.Errorf("make the importance matrix: %w", err)
		}
		imatrix = []string{file}
		a.path = strings.TrimSuffix(file, ".npz") + "-" + filepath.Base(a.path)
	}
	err := once(a.path, func(tmp string) error {
		fmt.Fprintf(w.log, "building %s of the %s sample\n", a.label(), s.Name)
		if a.Maker == llama {
			args := []string{"-c", llamaScript, w.llamaLib, "quantize", s.GGUF, tmp, strconv.Itoa(a.ftype), "2"}
			return w.command(ctx, w.python, append(args, imatrix...)...)
		}
		defer os.RemoveAll(tmp + cacheSuffix)
		args := builderArgs(s.HF, tmp, a.args)
		return w.command(ctx, w.python, args...)
	})
	if err != nil {
		return fmt.Errorf("build %s: %w", a.label(), err)
	}
	return nil
}

// cacheSuffix ends the name of the folder that genai's builder keeps files in.
const cacheSuffix = ".cache"

// builderArgs is the command line of genai's builder.
func builderArgs(in, out string, recipe []string) []string {
	args := []string{"-m", "onnxruntime_genai.models.builder", "-i", in, "-o", out, "-c", out + cacheSuffix, "-e", "cpu", "-p", recipe[0],
		"--extra_options", "hf_token=false"}
	return append(args, recipe[1:]...)
}

// command runs a program and gives its last words where it fails.
func (w *workshop) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "ORT_DISABLE_TELEMETRY=1", "HF_HUB_OFFLINE=1", "LLAMA_PAJAMAS_ONNXRUNTIME="+w.library)
	if err := cmd.Run(); err != nil {
		text := out.Bytes()
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

// weightBytes is the size of an artifact's weights: graph and data file of an
// ONNX folder; the tensors of a GGUF file, which holds the tokenizer too.
func (a *artifact) weightBytes() (int64, error) {
	if a.Maker == llama || a.Maker == ollama {
		r, err := gguf.Open(a.path)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		var n int64
		for _, t := range r.Infos() {
			n += t.Bytes
		}
		return n, nil
	}
	files := []string{modeldir.ModelFile, modeldir.DataFile}
	if a.Maker == mlxlm {
		files = []string{"model.safetensors"}
	}
	var n int64
	for _, name := range files {
		st, err := os.Stat(filepath.Join(a.path, name))
		if err != nil {
			return 0, err
		}
		n += st.Size()
	}
	return n, nil
}
