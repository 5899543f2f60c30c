package hub

import (
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Filter chooses which files of a model are fetched. An error ends the
// download.
type Filter func(ctx context.Context, l Listing) ([]File, error)

// Listing is what a [Filter] chooses from.
type Listing struct {
	Ref   Ref
	Files []File
	read  func(ctx context.Context, f File) ([]byte, error)
}

// Find returns a file by its path.
func (l Listing) Find(p string) (File, bool) {
	i := slices.IndexFunc(l.Files, func(f File) bool { return f.Path == p })
	if i < 0 {
		return File{}, false
	}
	return l.Files[i], true
}

// maxRead bounds what Read takes into memory. The index of a model of many
// thousand experts has some 10 MB.
const maxRead = 64 << 20

// Read fetches a small file into the cache and returns its content.
func (l Listing) Read(ctx context.Context, p string) ([]byte, error) {
	f, ok := l.Find(p)
	if !ok {
		return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.Revision, File: p}
	}
	if f.Size > maxRead {
		return nil, fmt.Errorf("%s of %s has %d bytes, more than any of its kind", p, l.Ref.ID, f.Size)
	}
	return l.read(ctx, f)
}

// root returns the files outside of any folder: sub-folders hold the same
// model in other formats, or parts that are not text.
func (l Listing) root() []File {
	return slices.DeleteFunc(slices.Clone(l.Files), func(f File) bool { return strings.Contains(f.Path, "/") })
}

// smallFile matches what a text model needs beside its weights, with licence
// and card.
var smallFile = regexp.MustCompile(`^(config\.json|generation_config\.json|tokenizer.*\.(json|model)|tokenizer\.model.*|spiece\.model|` +
	`vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|chat_template\.(jinja|json)|` +
	`(?i:LICEN[SC]E|NOTICE|USE_POLICY|COPYING).*|README\.md)$`)

// legalFile matches the part of it that a GGUF file does not hold.
var legalFile = regexp.MustCompile(`^((?i:LICEN[SC]E|NOTICE|USE_POLICY|COPYING).*|README\.md)$`)

func matching(files []File, re *regexp.Regexp) []File {
	return slices.DeleteFunc(slices.Clone(files), func(f File) bool { return !re.MatchString(f.Path) })
}

// Needed is the default filter: configuration, tokenizer, template, licence,
// and the weights once, as the safetensors files that the index names, or
// model.safetensors, or the only such file. A repository without any gives its
// one GGUF model. A choice (see [Ref]) wants a GGUF model in any case.
//
// Pickles, ONNX and other copies of the weights are never taken, nor anything
// in sub-folders.
func Needed(choice string) Filter {
	return func(ctx context.Context, l Listing) ([]File, error) {
		if choice != "" {
			return chooseGGUF(l, choice)
		}
		weights, err := l.safetensors(ctx)
		if err != nil {
			return nil, err
		}
		if len(weights) == 0 {
			if len(ggufModels(l.Files)) > 0 {
				return chooseGGUF(l, "")
			}
			return nil, l.noWeights()
		}
		if _, ok := l.Find("config.json"); !ok {
			return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.revision(), File: "config.json"}
		}
		return append(matching(l.root(), smallFile), weights...), nil
	}
}

// Text is the filter for what turns text into tokens and back: configuration,
// tokenizer and template, and no weights. A repository without a tokenizer of
// its own gives its one GGUF model, which holds one. A choice (see [Ref]) wants
// a GGUF model in any case.
func Text(choice string) Filter {
	return func(_ context.Context, l Listing) ([]File, error) {
		if choice != "" {
			return chooseGGUF(l, choice)
		}
		if _, ok := l.Find("tokenizer.json"); ok {
			return matching(l.root(), smallFile), nil
		}
		if len(ggufModels(l.Files)) > 0 {
			return chooseGGUF(l, "")
		}
		return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.revision(), File: "tokenizer.json"}
	}
}

// shardName matches one of several safetensors files.
var shardName = regexp.MustCompile(`^(.+)-(\d{5,6})-of-(\d{5,6})\.safetensors$`)

// safetensors returns the weight files, the index among them.
func (l Listing) safetensors(ctx context.Context) ([]File, error) {
	if index, ok := l.Find(safetensors.IndexName); ok {
		return l.indexed(ctx, index)
	}
	if f, ok := l.Find("model.safetensors"); ok {
		return []File{f}, nil
	}
	series := map[string][]File{}
	for _, f := range l.root() {
		name := f.Path
		switch m := shardName.FindStringSubmatch(name); {
		case !strings.HasSuffix(name, ".safetensors"), strings.HasPrefix(name, "adapter_"):
		case m != nil:
			series[m[1]+" of "+m[3]] = append(series[m[1]+" of "+m[3]], f)
		default:
			series[name] = []File{f}
		}
	}
	if len(series) > 1 {
		// Mistral's own layout lies beside Hugging Face's.
		delete(series, "consolidated.safetensors")
	}
	if len(series) > 1 {
		return nil, fmt.Errorf("%s holds several sets of safetensors files (%s) and no %s", l.Ref.ID, strings.Join(slices.Sorted(maps.Keys(series)), ", "), safetensors.IndexName)
	}
	for _, files := range series {
		return files, nil
	}
	return nil, nil
}

// indexed returns the index and the files it names.
func (l Listing) indexed(ctx context.Context, index File) ([]File, error) {
	b, err := l.Read(ctx, index.Path)
	if err != nil {
		return nil, err
	}
	idx, err := safetensors.ParseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", index.Path, l.Ref.ID, err)
	}
	names := map[string]bool{}
	for _, name := range idx.WeightMap {
		names[name] = true
	}
	files := []File{index}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f, ok := l.Find(name)
		if !ok {
			return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.revision(), File: name}
		}
		files = append(files, f)
	}
	return files, nil
}

// noWeights says what there is instead.
func (l Listing) noWeights() error {
	if _, ok := l.Find("adapter_config.json"); ok {
		return &tensor.UnsupportedError{What: "adapter " + l.Ref.ID + " as a model", Hint: "give its base model with --model and this one with --lora"}
	}
	for _, f := range l.root() {
		switch path.Ext(f.Path) {
		case ".bin", ".pth", ".pt", ".ckpt":
			return &tensor.UnsupportedError{
				What: fmt.Sprintf("pickle checkpoint %s of %s", f.Path, l.Ref.ID),
				Hint: "loading a pickle can run code; look for a revision with safetensors files (often @refs/pr/N, made by the hub's converter)",
			}
		}
	}
	return &tensor.UnsupportedError{What: l.Ref.ID, Hint: "it holds neither safetensors nor GGUF files"}
}

// ggufModel is one GGUF model: a file, or the shards of one that is split.
type ggufModel struct {
	name  string // of the first file, without the shard number and extension
	files []File
}

func (m ggufModel) bytes() (n int64) {
	for _, f := range m.files {
		n += f.Size
	}
	return n
}

var ggufShard = regexp.MustCompile(`-\d{5}-of-\d{5}$`)

// notModel matches GGUF files that hold no language model: image encoders for
// one, and importance matrices.
var notModel = regexp.MustCompile(`(?i)(^|[-._])(mmproj|imatrix)`)

// ggufModels groups the GGUF files of all folders: split models often lie in
// one of their own.
func ggufModels(files []File) []ggufModel {
	var models []ggufModel
	for _, f := range slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Path, b.Path) }) {
		if !strings.EqualFold(path.Ext(f.Path), ".gguf") || notModel.MatchString(path.Base(f.Path)) {
			continue
		}
		name := ggufShard.ReplaceAllString(f.Path[:len(f.Path)-len(".gguf")], "")
		if n := len(models); n > 0 && models[n-1].name == name {
			models[n-1].files = append(models[n-1].files, f)
		} else {
			models = append(models, ggufModel{name, []File{f}})
		}
	}
	return models
}

// chosen reports whether a choice means the model: one of its file names, a
// pattern over them, or a part of the name between dots and hyphens, so that
// Q4_K does not mean Q4_K_M.
func (m ggufModel) chosen(choice string) bool {
	choice = strings.ToLower(choice)
	for _, f := range m.files {
		base := strings.ToLower(path.Base(f.Path))
		if ok, err := path.Match(choice, base); base == choice || ok && err == nil {
			return true
		}
	}
	name := strings.ToLower(path.Base(m.name))
	for rest := name; ; {
		i := strings.Index(rest, choice)
		if i < 0 {
			return name == choice
		}
		at := len(name) - len(rest) + i
		end := at + len(choice)
		if (at == 0 || strings.ContainsRune("-.", rune(name[at-1]))) && (end == len(name) || strings.ContainsRune("-.", rune(name[end]))) {
			return true
		}
		rest = rest[i+1:]
	}
}

// chooseGGUF returns the one GGUF model that choice means, with its licence.
func chooseGGUF(l Listing, choice string) ([]File, error) {
	models := ggufModels(l.Files)
	if choice != "" {
		models = slices.DeleteFunc(models, func(m ggufModel) bool { return !m.chosen(choice) })
	}
	if len(models) == 1 {
		return append(matching(l.root(), legalFile), models[0].files...), nil
	}
	what := "name one"
	switch {
	case choice != "" && len(models) == 0:
		what = "none of them is " + choice
		if models = ggufModels(l.Files); len(models) == 0 {
			return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.revision(), File: choice}
		}
	case choice != "":
		what = fmt.Sprintf("%d of them are %s", len(models), choice)
	}
	var names []string
	for _, m := range models {
		names = append(names, fmt.Sprintf("%s (%.1f GB)", path.Base(m.files[0].Path), float64(m.bytes())/1e9))
	}
	return nil, fmt.Errorf("%s holds GGUF models, %s, as %s:NAME: %s", l.Ref.ID, what, Ref{ID: l.Ref.ID, Revision: l.Ref.Revision}, strings.Join(names, ", "))
}

// Adapter is the filter for a LoRA adapter as PEFT saves it.
func Adapter(_ context.Context, l Listing) ([]File, error) {
	var files []File
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors"} {
		f, ok := l.Find(name)
		if !ok {
			return nil, &NotFoundError{ID: l.Ref.ID, Revision: l.Ref.revision(), File: name}
		}
		files = append(files, f)
	}
	return files, nil
}
