package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// Facts are what a file's keys and tensors say, before it is loaded.
type Facts struct {
	Architecture string
	Context      int     // longest sequence the model was made for; 0 unknown
	LayerBytes   []int64 // of each layer
	OtherBytes   int64   // of the tensors in no layer
	// CacheElements is how many numbers of keys and values one token takes in
	// each layer.
	CacheElements []int64
}

// Bytes is the size of all tensors.
func (f *Facts) Bytes() int64 {
	n := f.OtherBytes
	for _, b := range f.LayerBytes {
		n += b
	}
	return n
}

// most layers, heads and so on of a model: far above any known, and far below
// what a sum of products overflows with.
const maxCount = 1 << 20

var layerName = regexp.MustCompile(`^blk\.(\d{1,7})\.`)

// Check reads the headers of a GGUF file, of all parts of a split one, and
// refuses what llama.cpp would end the process over: data beyond the file's end,
// unknown types, sizes that do not fit together. Of the architectures this
// module knows it checks the shape of every weight.
func Check(ctx context.Context, path string) (*Facts, error) {
	f, err := check(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", path, err)
	}
	return f, nil
}

func check(ctx context.Context, path string) (*Facts, error) {
	shards, err := checkpoint.GGUFShards(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range shards {
			s.Close() // they were only read
		}
	}()
	f, err := readFacts(shards)
	if err != nil {
		return nil, err
	}
	return f, checkWeights(ctx, path)
}

// checkWeights compares weights and sizes of an architecture that is known here;
// others are left to llama.cpp.
func checkWeights(ctx context.Context, path string) error {
	ck, err := checkpoint.Open(ctx, path, checkpoint.Options{})
	if unsupported(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if unsupported(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := ck.Check(spec.Weights()); err != nil && !unsupported(err) {
		return err
	}
	return nil
}

func unsupported(err error) bool {
	var u *tensor.UnsupportedError
	return errors.As(err, &u)
}

// keys reads the keys of a model.
type keys struct {
	r    *gguf.Reader
	arch string
}

func (k keys) fail(key, format string, a ...any) error {
	return &tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key " + key, Err: fmt.Errorf(format, a...)}
}

// count is a key of the model as one number for each layer; def where it is
// missing.
func (k keys) count(name string, layers int, def int64) ([]int64, error) {
	list := make([]int64, layers)
	for i := range list {
		list[i] = def
	}
	key := k.arch + "." + name
	v, ok := k.r.Value(key)
	if !ok {
		return list, nil
	}
	if v.Type == gguf.Array {
		given, err := v.Ints()
		if err != nil {
			return nil, err
		}
		if len(given) < layers {
			return nil, k.fail(key, "has %d entries for %d layers", len(given), layers)
		}
		copy(list, given)
	} else {
		n, err := v.Int()
		if err != nil {
			return nil, err
		}
		for i := range list {
			list[i] = n
		}
	}
	for _, n := range list {
		if n < 0 || n > maxCount {
			return nil, k.fail(key, "is %d", n)
		}
	}
	return list, nil
}

func (k keys) one(name string, def int64) (int64, error) {
	list, err := k.count(name, 1, def)
	if err != nil {
		return 0, err
	}
	return list[0], nil
}

// floats refuses numbers of the model that are none, and epsilons below zero.
func (k keys) floats() error {
	for _, v := range k.r.Values() {
		if !strings.HasPrefix(v.Key, k.arch+".") || (v.Type != gguf.Float32 && v.Type != gguf.Float64) {
			continue
		}
		x, err := v.Float()
		if err != nil {
			return err
		}
		if math.IsNaN(x) || math.IsInf(x, 0) || (x < 0 && strings.HasSuffix(v.Key, "epsilon")) {
			return k.fail(v.Key, "is %v", x)
		}
	}
	return nil
}

func readFacts(shards []*gguf.Reader) (*Facts, error) {
	k := keys{r: shards[0]}
	text := func(key string) (string, error) {
		v, ok := k.r.Value(key)
		if !ok {
			return "", nil
		}
		return v.Text()
	}
	var err error
	if k.arch, err = text("general.architecture"); err != nil {
		return nil, err
	}
	if k.arch == "" {
		return nil, k.fail("general.architecture", "is missing: the file holds no model")
	}
	kind, err := text("general.type")
	if err != nil {
		return nil, err
	}
	if kind != "" && kind != "model" {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("GGUF file of general.type %q", kind), Hint: "give the language model's own file"}
	}
	f := &Facts{Architecture: k.arch}
	layers, err := k.one("block_count", 0)
	if err != nil {
		return nil, err
	}
	if v, ok := k.r.Value(k.arch + ".context_length"); ok {
		n, err := v.Int()
		if err != nil {
			return nil, err
		}
		if n <= 0 || n > math.MaxInt32 {
			return nil, k.fail(k.arch+".context_length", "is %d", n)
		}
		f.Context = int(n)
	}
	if err := k.floats(); err != nil {
		return nil, err
	}
	if err := f.cache(k, int(layers)); err != nil {
		return nil, err
	}
	return f, f.sizes(k, shards, int(layers))
}

// cache fills CacheElements.
func (f *Facts) cache(k keys, layers int) error {
	width, err := k.one("embedding_length", 0)
	if err != nil {
		return err
	}
	heads, err := k.count("attention.head_count", layers, 0)
	if err != nil {
		return err
	}
	kv := heads
	if _, ok := k.r.Value(k.arch + ".attention.head_count_kv"); ok {
		if kv, err = k.count("attention.head_count_kv", layers, 0); err != nil {
			return err
		}
	}
	var keyLen, valueLen int64
	for i := range layers {
		if heads[i] > 0 && keyLen == 0 {
			keyLen, valueLen = width/heads[i], width/heads[i]
		}
	}
	if keyLen, err = k.one("attention.key_length", keyLen); err != nil {
		return err
	}
	if valueLen, err = k.one("attention.value_length", valueLen); err != nil {
		return err
	}
	f.CacheElements = make([]int64, layers)
	for i := range layers {
		f.CacheElements[i] = kv[i] * (keyLen + valueLen)
	}
	return nil
}

// sizes sums up the tensors and refuses those of layers that block_count does
// not have.
func (f *Facts) sizes(k keys, shards []*gguf.Reader, layers int) error {
	f.LayerBytes = make([]int64, layers)
	for _, s := range shards {
		for _, t := range s.Infos() {
			if !weightType(t) {
				return &tensor.FormatError{Path: s.Path(), Offset: t.Offset, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: fmt.Errorf("is of type %v and shape %v: no type of a weight of that shape", t.Type, t.Shape)}
			}
			m := layerName.FindStringSubmatch(t.Name)
			if m == nil {
				f.OtherBytes += t.Bytes
				continue
			}
			i, err := strconv.Atoi(m[1])
			if err != nil || i >= layers {
				return &tensor.FormatError{Path: s.Path(), Offset: t.Offset, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: fmt.Errorf("belongs to layer %s of a model of %d layers (key %s.block_count)", m[1], layers, k.arch)}
			}
			f.LayerBytes[i] += t.Bytes
		}
	}
	return nil
}

// weightType reports types that llama.cpp multiplies with: of vectors the plain
// floats, of matrices all but integers, float64 and the types of activations.
// Others fail an assertion or call a function that is not there.
func weightType(t gguf.Info) bool {
	switch t.Type {
	case ggml.F32, ggml.F16, ggml.BF16:
		return true
	case ggml.I8, ggml.I16, ggml.I32, ggml.I64, ggml.F64, ggml.Q8_1, ggml.Q8_K:
		return false
	}
	return len(t.Shape) > 1
}

// OpenText reads what a GGUF file says about text: the small files of a model
// folder, and the tokenizer. Folder.Model is path.
func OpenText(path string) (*modeldir.Folder, *tokenizer.Tokenizer, error) {
	ck, err := checkpoint.OpenText(path)
	if err != nil {
		return nil, nil, err
	}
	defer ck.Close()
	read := func(name string) ([]byte, error) {
		f, ok := ck.SupportFile(name)
		if !ok {
			return nil, fs.ErrNotExist
		}
		return f.Data()
	}
	data, err := read(modeldir.TokenizerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the tokenizer of %s: the file has none (tokenizer.ggml.tokens)", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the tokenizer of %s: %w", path, err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("read the tokenizer of %s: %w", path, err)
	}
	folder, err := modeldir.FromFiles(path, read)
	if err != nil {
		return nil, nil, err
	}
	folder.Model = path
	return folder, tok, nil
}
