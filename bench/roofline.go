package bench

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// NewRoofline sets a decode rate in tokens/s beside what reading allows: to make
// one token at batch 1 all weights are read once, and the keys and values of the
// sequence once:
//
//	bytes per token = weights + cache bytes per token × mean length
//	achieved        = bytes per token × rate
//	ceiling         = bandwidth / bytes per token
//	share           = rate / ceiling = achieved / bandwidth
//
// The weights are those of [WeightsRead]. Of n tokens after a prompt of p the
// first comes with the prompt's evaluation; the steps for the others read
// sequences of p + 1 to p + n − 1 tokens, p + n/2 in the mean.
//
// It is assumed that weights are read as they are stored, that nothing stays in
// the processor's caches from one token to the next, and that activations do
// stay there. A runtime that unpacks weights into a wider form reads more, and
// its share looks smaller than it is; a model that fits the caches may be above
// its ceiling. The ceiling is never moved to hide that.
func NewRoofline(rate float64, weights, cachePerToken int64, prompt, generate int, bandwidth float64, source string) *Roofline {
	if rate <= 0 || weights <= 0 || bandwidth <= 0 {
		return nil
	}
	length := float64(prompt) + float64(generate)/2
	r := &Roofline{
		WeightBytes: weights, CacheBytes: int64(math.Round(float64(cachePerToken) * length)),
		Bandwidth: bandwidth, Source: source,
	}
	r.BytesPerToken = r.WeightBytes + r.CacheBytes
	r.Achieved = float64(r.BytesPerToken) * rate
	r.Ceiling = bandwidth / float64(r.BytesPerToken)
	r.Share = rate / r.Ceiling
	return r
}

// WeightsRead is the bytes of weights that one token needs: all of them but the
// tables of which it reads a row, and of those the row. A head that is tied to
// the embedding is read whole. path is the folder, or the GGUF file.
func WeightsRead(format, path string) (n int64, err error) {
	switch format {
	case "gguf":
		n, err = ggufRead(path)
	case "onnx":
		n, err = onnxRead(path)
	case "mlx":
		n, err = mlxRead(path)
	default:
		err = fmt.Errorf("unknown format %q", format)
	}
	if err != nil {
		return 0, fmt.Errorf("count the weights that a token reads: %w", err)
	}
	return n, nil
}

// sized is a tensor of a file.
type sized struct {
	name        string
	bytes, rows int64
}

// rows of a table; a vector is one.
func rows(shape tensor.Shape) int64 {
	if len(shape) < 2 {
		return 1
	}
	return int64(shape[0])
}

// add sums tensors up; of those that lookup names a row is read.
func add(tensors []sized, lookup func(name string) bool) (n int64) {
	for _, t := range tensors {
		if lookup(t.name) {
			n += t.bytes / max(t.rows, 1)
		} else {
			n += t.bytes
		}
	}
	return n
}

// ggufRead knows llama.cpp's names: token_embd.weight is the head too where there
// is no output.weight.
func ggufRead(path string) (int64, error) {
	paths := []string{path}
	if before, after, ok := strings.Cut(path, "-00001-of-"); ok { // the parts of a split file
		var err error
		if paths, err = filepath.Glob(globEscape.Replace(before) + "-?????-of-" + globEscape.Replace(after)); err != nil {
			return 0, err
		}
	}
	var all []sized
	untied := false
	for _, p := range paths {
		r, err := gguf.Open(p)
		if err != nil {
			return 0, err
		}
		for _, t := range r.Infos() {
			untied = untied || t.Name == "output.weight"
			all = append(all, sized{t.Name, t.Bytes, rows(t.Shape)})
		}
		if err := r.Close(); err != nil {
			return 0, err
		}
	}
	return add(all, func(name string) bool { return untied && name == "token_embd.weight" }), nil
}

var globEscape = strings.NewReplacer("[", "\\[", "*", "\\*", "?", "\\?")

// mlxRead knows mlx-lm's names: model.embed_tokens.{weight,scales,biases} is the
// head too where there is no lm_head.
func mlxRead(dir string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(globEscape.Replace(dir), "*.safetensors"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("%s holds no .safetensors file", dir)
	}
	var all []sized
	untied := false
	for _, p := range files {
		r, err := safetensors.Open(p)
		if err != nil {
			return 0, err
		}
		for _, t := range r.Infos() {
			untied = untied || strings.HasPrefix(t.Name, "lm_head.")
			all = append(all, sized{t.Name, t.Bytes, rows(t.Shape)})
		}
		if err := r.Close(); err != nil {
			return 0, err
		}
	}
	return add(all, func(name string) bool { return untied && strings.Contains(name, ".embed_tokens.") }), nil
}

// rowOps read a row of a table for a token: the embedding's, or the rotary
// tables'.
var rowOps = []string{"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding"}

// onnxRead goes by what the graph does: an initializer that only such operators
// read is a table, all others are read whole. Two initializers of one range, as
// tied weights are, count once.
func onnxRead(dir string) (int64, error) {
	f, err := onnx.Open(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	g := f.Model.Graph
	index := g.Index()
	type place struct {
		location       string
		offset, length int64
	}
	read := map[place]int64{}
	var inline int64
	for _, t := range g.Initializers {
		bytes, ok := t.Bytes()
		if !ok {
			continue
		}
		takes := bytes
		users := index.Consumers(t.Name)
		if len(t.Dims) > 1 && len(users) > 0 && !slices.ContainsFunc(users, func(n *onnx.Node) bool { return !slices.Contains(rowOps, n.Op) }) {
			takes = bytes / max(t.Dims[0], 1)
		}
		if t.External == nil {
			inline += takes
			continue
		}
		at := place{t.External.Location, t.External.Offset, bytes}
		read[at] = max(read[at], takes)
	}
	n := inline
	for _, takes := range read {
		n += takes
	}
	return n, nil
}
