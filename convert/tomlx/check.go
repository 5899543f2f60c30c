package tomlx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/quant/affine"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// maxConfigBytes bounds config.json: one that names every module of a large
// mixture has some 200 KB.
const maxConfigBytes = 16 << 20

// Info is what [Check] found in a folder.
type Info struct {
	ModelType string
	// Bits and Group are config.json's; 0 where nothing is quantized.
	Bits, Group int
	// Packed tells how each quantized module is packed, by its path.
	Packed map[string]Packing
	// Parameters is the number of weights, unpacked.
	Parameters int64
	// WeightBytes is the tensors' size.
	WeightBytes int64
	// Complete is set where the architecture is known, so that tensors were
	// compared with what it wants.
	Complete bool
}

// Packing is how one module's weight is packed.
type Packing struct{ Bits, Group int }

// BitsPerWeight is the size of all tensors over the number of weights.
func (i *Info) BitsPerWeight() float64 {
	if i.Parameters == 0 {
		return 0
	}
	return 8 * float64(i.WeightBytes) / float64(i.Parameters)
}

// Check reads the headers of an mlx-lm folder, and its scales and biases, and
// tells whether mlx-lm would load it and what it would find: words, scales and
// biases that belong together and agree with config.json, no numbers that are
// none, and, where package arch knows the model, every tensor in its shape and
// nothing besides. Broken folders are a [tensor.FormatError], other modes than
// affine a [tensor.UnsupportedError].
func Check(ctx context.Context, dir string) (*Info, error) {
	info, err := check(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("check MLX folder %s: %w", dir, err)
	}
	return info, nil
}

func check(ctx context.Context, dir string) (*Info, error) {
	config, err := readBounded(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	set, err := openWeights(dir)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	var infos []safetensors.Info
	for _, r := range set.Shards() {
		infos = append(infos, r.Infos()...)
	}
	out, err := checkTensors(config, infos)
	if err != nil {
		return nil, err
	}
	buf := make([]float32, 64<<10)
	for path := range out.Packed {
		for _, part := range []string{".scales", ".biases"} {
			t, ok := set.Tensor(path + part)
			if !ok {
				return nil, broken(path+part, "is missing")
			}
			for at, n := int64(0), t.Elements(); at < n; at += int64(len(buf)) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				if err := t.ReadWeights(buf[:min(int64(len(buf)), n-at)], at); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// openWeights opens what mlx-lm's loader would: all files of the name, whether
// an index names them or not.
func openWeights(dir string) (*safetensors.Set, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "model") && strings.HasSuffix(e.Name(), ".safetensors") {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, errors.New("there is no model*.safetensors in it")
	}
	return safetensors.OpenFiles(paths...)
}

// readBounded reads a small file whole.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxConfigBytes {
		return nil, &tensor.FormatError{Path: path, Offset: maxConfigBytes, Err: errors.New("larger than any file of its kind")}
	}
	return b, nil
}

// broken is the error for a tensor that does not fit the others.
func broken(name, format string, args ...any) error {
	return &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("tensor %.120q", name), Err: fmt.Errorf(format, args...)}
}

// packings are config.json's quantization block.
type packings struct {
	Packing
	modules map[string]Packing
	floats  map[string]bool // modules that are not quantized, by name
}

// checkTensors compares config.json with the tensors' headers.
func checkTensors(config []byte, infos []safetensors.Info) (*Info, error) {
	var c map[string]any
	if err := decode(config, &c); err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "config.json", Err: fmt.Errorf("not a JSON object: %w", err)}
	}
	q, err := readQuantization(c)
	if err != nil {
		return nil, err
	}
	out := &Info{Bits: q.Bits, Group: q.Group, Packed: map[string]Packing{}}
	out.ModelType, _ = c["model_type"].(string)
	byName := make(map[string]safetensors.Info, len(infos))
	for _, t := range infos {
		byName[t.Name] = t
		out.WeightBytes += t.Bytes
	}
	widths, err := out.wanted(c, byName)
	if err != nil {
		return nil, err
	}
	for _, t := range infos {
		name, isScales := strings.CutSuffix(t.Name, ".scales")
		path, isBiases := strings.CutSuffix(t.Name, ".biases")
		switch {
		case isBiases:
			if _, ok := byName[path+".scales"]; !ok {
				return nil, broken(t.Name, "has no scales beside it")
			}
		case isScales:
			n, err := out.packed(name, byName, q, widths[name])
			if err != nil {
				return nil, err
			}
			out.Parameters += n
		default:
			path, isWeight := strings.CutSuffix(t.Name, ".weight")
			if _, ok := byName[path+".scales"]; isWeight && ok {
				continue
			}
			if !isFloat(t.Type) {
				return nil, broken(t.Name, "has type %s and no scales beside it", t.Type)
			}
			n, _ := t.Shape.Elements()
			out.Parameters += n
		}
	}
	return out, nil
}

func isFloat(typ string) bool {
	d, ok := tensor.ParseDType(typ)
	return ok && (d == tensor.BF16 || d == tensor.F16 || d == tensor.F32)
}

// readQuantization reads the block and its overrides.
func readQuantization(c map[string]any) (q packings, err error) {
	q.modules, q.floats = map[string]Packing{}, map[string]bool{}
	block, ok := c["quantization"].(map[string]any)
	if !ok {
		if other, ok := c["quantization_config"].(map[string]any); ok {
			return q, &tensor.UnsupportedError{What: fmt.Sprintf("weights packed by %v", other["quant_method"]), Hint: "only mlx's own quantization"}
		}
		return q, nil
	}
	if q.Packing, err = readPacking("quantization", block); err != nil {
		return q, err
	}
	for k, v := range block {
		switch v := v.(type) {
		case map[string]any:
			if q.modules[k], err = readPacking("quantization: "+k, v); err != nil {
				return q, err
			}
		case bool:
			q.floats[k] = !v
		}
	}
	return q, nil
}

// Quantized reports whether a config.json is one of mlx-lm with something
// quantized.
func Quantized(config []byte) bool {
	var c struct {
		Quantization struct {
			Bits  int `json:"bits"`
			Group int `json:"group_size"`
		} `json:"quantization"`
	}
	return json.Unmarshal(config, &c) == nil && c.Quantization.Bits > 0 && c.Quantization.Group > 0
}

func readPacking(field string, m map[string]any) (p Packing, err error) {
	if mode, ok := m["mode"].(string); ok && mode != "affine" {
		return p, &tensor.UnsupportedError{What: fmt.Sprintf("config.json: %.120s: mode %.40q", field, mode), Hint: "only affine"}
	}
	for _, f := range []struct {
		key string
		to  *int
		max int64
	}{{"bits", &p.Bits, 8}, {"group_size", &p.Group, 128}} {
		n, ok := m[f.key].(json.Number)
		v, err := n.Int64()
		if !ok || err != nil || v <= 0 || v > f.max {
			return p, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("config.json: %.120s", field), Err: fmt.Errorf("%s is %v", f.key, m[f.key])}
		}
		*f.to = int(v)
	}
	if err := (affine.Options{Bits: p.Bits, Group: p.Group}).Check(0); err != nil {
		return p, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("config.json: %.120s", field), Err: err}
	}
	return p, nil
}

// wanted compares the tensors there are with what the architecture wants, where
// it is known, and returns the width of each matrix by its module.
func (out *Info) wanted(c map[string]any, byName map[string]safetensors.Info) (map[string]int, error) {
	plain := make(map[string]any, len(c))
	for k, v := range c {
		if k != "quantization" && k != "quantization_config" {
			plain[k] = v
		}
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("encode config.json: %w", err)
	}
	spec, err := arch.Parse(b)
	var unknown *tensor.UnsupportedError
	if errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out.Complete = true
	widths := map[string]int{}
	known := map[string]bool{}
	for _, w := range modules(spec) {
		t, ok := byName[w.Name]
		if !ok {
			return nil, broken(w.Name, "is missing")
		}
		known[w.Name] = true
		path := strings.TrimSuffix(w.Name, ".weight")
		if _, packed := byName[path+".scales"]; packed && w.Role.IsMatrix() {
			known[path+".scales"], known[path+".biases"] = true, true
			widths[path] = w.Shape[len(w.Shape)-1]
			if len(t.Shape) != len(w.Shape) || !slices.Equal(t.Shape[:len(t.Shape)-1], w.Shape[:len(w.Shape)-1]) {
				return nil, broken(w.Name, "has shape %v, want %v packed", t.Shape, w.Shape)
			}
			continue
		}
		if !t.Shape.Equal(w.Shape) {
			return nil, broken(w.Name, "has shape %v, want %v", t.Shape, w.Shape)
		}
	}
	for name := range byName {
		// mlx-lm's models drop these themselves.
		dropped := strings.Contains(name, "rotary_emb.inv_freq") || spec.Tied && strings.HasPrefix(name, "lm_head.")
		if !known[name] && !dropped {
			return nil, broken(name, "belongs to no module of the model")
		}
	}
	return widths, nil
}

// packed checks the three tensors of one module, width wide where that is known
// (0 where not), and returns the number of its weights.
func (out *Info) packed(path string, byName map[string]safetensors.Info, q packings, width int) (int64, error) {
	scales := byName[path+".scales"]
	words, ok := byName[path+".weight"]
	if !ok {
		return 0, broken(path+".scales", "has no weight beside it")
	}
	biases, ok := byName[path+".biases"]
	if !ok {
		return 0, broken(path+".scales", "has no biases beside it")
	}
	rank := len(words.Shape)
	switch {
	case words.Type != "U32":
		return 0, broken(words.Name, "has type %s and scales; packed words are U32", words.Type)
	case !isFloat(scales.Type) || scales.Type != biases.Type:
		return 0, broken(scales.Name, "has type %s, the biases %s", scales.Type, biases.Type)
	case !scales.Shape.Equal(biases.Shape):
		return 0, broken(scales.Name, "has shape %v, the biases %v", scales.Shape, biases.Shape)
	case rank < 2 || len(scales.Shape) != rank || !slices.Equal(scales.Shape[:rank-1], words.Shape[:rank-1]):
		return 0, broken(scales.Name, "has shape %v, the words %v", scales.Shape, words.Shape)
	case q.floats[path]:
		return 0, broken(words.Name, "is packed, but config.json says that it is not")
	}
	packed, groups := words.Shape[rank-1], scales.Shape[rank-1]
	p, named := q.modules[path]
	if !named {
		p = q.Packing
		if width > 0 && groups > 0 && width%groups == 0 && 32*packed%width == 0 {
			p = Packing{32 * packed / width, width / groups} // as the loader infers it
		}
	}
	if err := (affine.Options{Bits: p.Bits, Group: p.Group}).Check(width); p.Bits == 0 || p.Group == 0 || err != nil {
		if err == nil {
			err = errors.New("config.json does not say how")
		}
		return 0, broken(words.Name, "is packed in %d words with %d scales a row: %w", packed, groups, err)
	}
	if width > 0 && groups*p.Group != width || int64(packed)*32 != int64(groups)*int64(p.Group)*int64(p.Bits) {
		return 0, broken(words.Name, "has %d words and %d scales a row, which are not %d bits in groups of %d", packed, groups, p.Bits, p.Group)
	}
	out.Packed[path] = p
	n, _ := scales.Shape.Elements()
	return n * int64(p.Group), nil
}
