package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// permutationSeed draws the permutation of the permuted sample.
const permutationSeed = 20261125

// The samples.
const (
	plainSample    = "plain"
	permutedSample = "permuted"
	storiesSample  = "stories" // stories260K, of real float32 weights
)

// dataFolder has texts and the stories sample.
var dataFolder = filepath.Join("..", "shared", "data")

// sampleTexts are what each sample is measured on.
var sampleTexts = map[string]string{
	plainSample:    filepath.Join(dataFolder, "wikitext-2-raw", "wiki.test.raw"),
	permutedSample: filepath.Join(dataFolder, "wikitext-2-raw", "wiki.test.raw"),
	storiesSample:  filepath.Join(dataFolder, "tinystories_sample.txt"),
}

// sample is the model that everybody converts, in the forms they read.
type sample struct {
	Name string
	// HF is a Hugging Face folder of float32 weights, GGUF a file of the same;
	// stories has none.
	HF, GGUF   string
	Parameters int64
	Spec       *arch.Spec
}

// source is the GGUF file the samples are made from.
type source struct {
	ck   *checkpoint.Checkpoint
	spec *arch.Spec
	file *gguf.Reader
}

func openSource(ctx context.Context, path string) (*source, error) {
	ck, err := checkpoint.Open(ctx, path, checkpoint.Options{})
	if err != nil {
		return nil, err
	}
	s := &source{ck: ck}
	if s.spec, err = arch.Parse(ck.Config()); err == nil {
		s.file, err = gguf.Open(path)
	}
	if err != nil {
		return nil, errors.Join(err, ck.Close())
	}
	return s, nil
}

func (s *source) Close() error { return errors.Join(s.ck.Close(), s.file.Close()) }

// weight reads one weight as float32, permuted unless p is nil.
func (s *source) weight(w arch.Weight, p *permutation) (tensor.Floats, error) {
	t, ok := s.ck.Tensor(w.Name)
	if !ok {
		return nil, fmt.Errorf("%s has no tensor %q", s.ck.Path(), w.Name)
	}
	x := make([]float32, t.Elements())
	if err := t.ReadFloat32(x, 0); err != nil {
		return nil, fmt.Errorf("read %q: %w", w.Name, err)
	}
	if p != nil {
		x = p.apply(w, x)
	}
	return x, nil
}

// makeSample writes a sample's folder and GGUF file below dir, where they are
// not there yet.
func makeSample(ctx context.Context, path, dir, name string) (*sample, error) {
	switch name {
	case plainSample, permutedSample:
	case storiesSample:
		return openStories(ctx, filepath.Join(dataFolder, "stories260K-hf"))
	default:
		return nil, fmt.Errorf("sample %q: choose %s, %s or %s", name, permutedSample, plainSample, storiesSample)
	}
	src, err := openSource(ctx, path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	var p *permutation
	if name == permutedSample {
		p = newPermutation(src.spec, permutationSeed)
	}
	root := filepath.Join(dir, name)
	out := &sample{Name: name, HF: filepath.Join(root, "hf"), GGUF: filepath.Join(root, "f32.gguf"),
		Parameters: src.spec.Parameters(), Spec: src.spec}
	if err := once(out.HF, func(tmp string) error { return src.writeFolder(tmp, tensor.F32, p) }); err != nil {
		return nil, fmt.Errorf("write the %s sample: %w", name, err)
	}
	if err := once(out.GGUF, func(tmp string) error { return src.writeGGUF(tmp, p) }); err != nil {
		return nil, fmt.Errorf("write the %s sample as GGUF: %w", name, err)
	}
	return out, nil
}

// openStories takes a folder as it is.
func openStories(ctx context.Context, folder string) (*sample, error) {
	ck, err := checkpoint.Open(ctx, folder, checkpoint.Options{})
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return nil, err
	}
	return &sample{Name: storiesSample, HF: folder, Parameters: spec.Parameters(), Spec: spec}, nil
}

// once makes a file or folder unless it is there: under a temporary name
// first, so that a half-made one is not taken for it later.
func once(path string, fill func(tmp string) error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	tmp := path + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, path)
}

// writeFolder writes a Hugging Face folder of F32 or BF16 weights.
func (s *source) writeFolder(dir string, d tensor.DType, p *permutation) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(s.ck.Config(), &config); err != nil {
		return err
	}
	// transformers loads weights in the type the config names.
	config["torch_dtype"] = map[tensor.DType]string{tensor.F32: "float32", tensor.BF16: "bfloat16"}[d]
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644); err != nil {
		return err
	}
	for _, f := range s.ck.SupportFiles() {
		b, err := f.Data()
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), b, 0o644); err != nil {
			return err
		}
	}
	weights := s.spec.Weights()
	return writeFile(filepath.Join(dir, "model.safetensors"), func(f *bufio.Writer) error {
		w := safetensors.NewWriter(f, map[string]string{"format": "pt"})
		for _, x := range weights {
			w.Declare(safetensors.Decl{Name: x.Name, Type: d.String(), Shape: x.Shape})
		}
		if err := w.WriteHeader(); err != nil {
			return err
		}
		for _, x := range weights {
			data, err := s.weight(x, p)
			if err != nil {
				return err
			}
			if err := w.WriteTensor(x.Name, tensor.Stream{R: data, Elements: int64(len(data)), DType: d}); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

// writeFile writes a file through a buffer.
func writeFile(path string, fill func(*bufio.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := fill(w); err != nil {
		return err
	}
	return w.Flush()
}

// ggufNames are llama.cpp's tensor names (gguf-py, constants.py) of roles.
var ggufNames = map[arch.Role]string{
	arch.TokenEmbd: "token_embd", arch.FinalNorm: "output_norm", arch.LMHead: "output",
	arch.AttnNorm: "attn_norm", arch.AttnQ: "attn_q", arch.AttnK: "attn_k", arch.AttnV: "attn_v", arch.AttnO: "attn_output",
	arch.FFNNorm: "ffn_norm", arch.FFNGate: "ffn_gate", arch.FFNUp: "ffn_up", arch.FFNDown: "ffn_down",
}

func ggufName(w arch.Weight) string {
	if w.Layer < 0 {
		return ggufNames[w.Role] + ".weight"
	}
	return fmt.Sprintf("blk.%d.%s.weight", w.Layer, ggufNames[w.Role])
}

// writeGGUF writes the weights as a GGUF file of float32, with the source's
// own keys: what llama.cpp's converter makes of the folder.
func (s *source) writeGGUF(path string, p *permutation) error {
	if s.spec.Architecture != "LlamaForCausalLM" {
		return &tensor.UnsupportedError{What: "the architecture " + s.spec.Architecture + " of the sample, for llama.cpp's tensor names and row order"}
	}
	weights := s.spec.Weights()
	return writeFile(path, func(f *bufio.Writer) error {
		w := gguf.NewWriter(f, gguf.WriterOptions{})
		for _, v := range s.file.Values() {
			if v.Key != "general.file_type" && v.Key != "general.alignment" {
				w.Copy(v)
			}
		}
		w.Set("general.file_type", uint32(0))
		for _, x := range weights {
			w.Declare(gguf.Decl{Name: ggufName(x), Type: ggml.F32, Shape: x.Shape})
		}
		if err := w.WriteHeader(); err != nil {
			return err
		}
		for _, x := range weights {
			data, err := s.weight(x, p)
			if err != nil {
				return err
			}
			switch x.Role {
			case arch.AttnQ, arch.AttnK:
				data = interleave(data, x.Shape[1], s.spec.HeadDim)
			}
			if err := w.WriteTensor(ggufName(x), tensor.Stream{R: data, Elements: int64(len(data)), DType: tensor.F32}); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

// interleave puts the rows of q and k from Hugging Face's order, where RoPE
// pairs i with i+head_dim/2, into llama.cpp's, where it pairs neighbours.
func interleave(x []float32, width, headDim int) []float32 {
	out := make([]float32, len(x))
	for r := range len(x) / width {
		head, i := r/headDim, r%headDim
		to := head*headDim + 2*(i%(headDim/2)) + i/(headDim/2)
		copy(out[to*width:(to+1)*width], x[r*width:(r+1)*width])
	}
	return out
}
