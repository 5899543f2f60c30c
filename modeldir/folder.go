package modeldir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// maxConfigBytes bounds the small files read here. The largest known
// tokenizer_config.json (tens of thousands of added tokens) is about 3 MB.
const maxConfigBytes = 32 << 20

// ErrNoTemplate is returned by [Folder.Template] for a model without a chat
// template, that is, most base models.
var ErrNoTemplate = errors.New("the model has no chat template (no chat_template.jinja, none in tokenizer_config.json): it is a base model, use generate")

// Folder is one model folder, its small files read. Fields of absent files
// are nil or zero.
type Folder struct {
	// Dir is the folder, Model the path of the graph in it.
	Dir, Model string
	// Metadata is nil in folders that this module's converter did not write.
	Metadata *Metadata
	// GenAI is nil where there is no genai_config.json.
	GenAI      *GenAI
	Generation Generation
	Tokenizer  TokenizerConfig

	templates map[string]string
}

// Open reads the folder at path, or the folder around the .onnx file at path.
// It opens no graph and no tokenizer.
func Open(path string) (*Folder, error) {
	f, err := OpenFiles(path)
	if err != nil {
		return nil, err
	}
	if f.Model == "" {
		if err := f.findModel(); err != nil {
			return nil, fmt.Errorf("open model folder %s: %w", f.Dir, err)
		}
	}
	return f, nil
}

// OpenFiles is like [Open] for work that needs no graph: Model stays empty
// where path is a folder.
func OpenFiles(path string) (*Folder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", path, cause(err))
	}
	f := &Folder{Dir: path}
	if !info.IsDir() {
		if !strings.EqualFold(filepath.Ext(path), ".onnx") {
			return nil, fmt.Errorf("open model %s: not an .onnx file; give a model folder or its model.onnx", path)
		}
		f.Dir, f.Model = filepath.Dir(path), path
	}
	err = f.readConfigs(func(name string) ([]byte, error) { return readSmall(filepath.Join(f.Dir, name)) })
	if err != nil {
		return nil, fmt.Errorf("open model folder %s: %w", f.Dir, err)
	}
	return f, nil
}

// FromFiles is like [OpenFiles] for small files that are in no folder, such as
// those rebuilt from a GGUF file. Path is for errors; read returns a file's
// content by name, or fs.ErrNotExist.
func FromFiles(path string, read func(name string) ([]byte, error)) (*Folder, error) {
	f := &Folder{Dir: path}
	if err := f.readConfigs(read); err != nil {
		return nil, fmt.Errorf("open model %s: %w", path, err)
	}
	return f, nil
}

// readConfigs reads every small file that is there.
func (f *Folder) readConfigs(read func(name string) ([]byte, error)) error {
	for _, file := range []struct {
		name  string
		parse func([]byte) error
	}{
		{MetadataFile, func(b []byte) (err error) { f.Metadata, err = ParseMetadata(b); return }},
		{GenAIConfigFile, func(b []byte) (err error) { f.GenAI, err = ParseGenAI(b); return }},
		{GenerationConfigFile, func(b []byte) (err error) { f.Generation, err = ParseGeneration(b); return }},
		{TokenizerConfigFile, func(b []byte) (err error) { f.Tokenizer, err = ParseTokenizerConfig(b); return }},
		{ChatTemplateFile, func(b []byte) error { f.setTemplate("default", string(b)); return nil }},
	} {
		data, err := read(file.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = file.parse(data)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file.name, err)
		}
	}
	for name, text := range f.Tokenizer.Templates {
		if _, have := f.templates[name]; !have { // the file of its own wins, as in transformers
			f.setTemplate(name, text)
		}
	}
	return nil
}

func (f *Folder) setTemplate(name, text string) {
	if f.templates == nil {
		f.templates = map[string]string{}
	}
	f.templates[name] = text
}

// findModel picks the graph: the one genai_config.json names, model.onnx, or
// the only .onnx file there.
func (f *Folder) findModel() error {
	name := ModelFile
	if f.GenAI != nil && f.GenAI.Model.Decoder.Filename != "" {
		name = f.GenAI.Model.Decoder.Filename
	}
	f.Model = filepath.Join(f.Dir, name)
	if _, err := os.Stat(f.Model); err == nil {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(escapeGlob(f.Dir), "*.onnx"))
	if err != nil {
		return err
	}
	switch {
	case len(found) == 1:
		f.Model = found[0]
		return nil
	case len(found) > 1:
		return fmt.Errorf("there is no %s but several other graphs: give the path of one of %s", name, strings.Join(found, ", "))
	}
	if inside := artifactsBelow(f.Dir); len(inside) > 0 {
		return fmt.Errorf("there is no %s in it, but below it: give one of %s", name, strings.Join(inside, ", "))
	}
	return fmt.Errorf("there is no %s in it; llama-pajamas-quant convert makes one", name)
}

// artifactsBelow lists the graphs of a conversion's output folder
// (onnx/<target>/<recipe>/model.onnx) or of a part of it.
func artifactsBelow(dir string) []string {
	var all []string
	for _, pattern := range []string{"*", "*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(escapeGlob(dir), filepath.FromSlash(pattern), ModelFile))
		if err != nil {
			return nil
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return all[:min(len(all), 8)]
}

func escapeGlob(dir string) string {
	if filepath.Separator == '\\' {
		return dir // no escapes in Windows patterns
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}

// Template returns the chat template: the one of that name ("tool_use", …)
// where the model has it, else the default one.
func (f *Folder) Template(name string) (string, error) {
	if t, ok := f.templates[name]; ok {
		return t, nil
	}
	if t, ok := f.templates["default"]; ok {
		return t, nil
	}
	return "", fmt.Errorf("model folder %s: %w", f.Dir, ErrNoTemplate)
}

// EndTokens is the list of ids that end an answer: generation_config.json's,
// else genai_config.json's.
func (f *Folder) EndTokens() []int32 {
	if len(f.Generation.EOS) > 0 || f.GenAI == nil {
		return f.Generation.EOS
	}
	return f.GenAI.Model.EOS
}

// MaxContext is the longest sequence the model was made for, 0 if no file of
// the folder tells.
func (f *Folder) MaxContext() int {
	if f.Metadata != nil && f.Metadata.Architecture.MaxContext > 0 {
		return f.Metadata.Architecture.MaxContext
	}
	if f.GenAI != nil {
		return f.GenAI.Model.ContextLength
	}
	return 0
}

// WeightBytes is the size of the files the graph's weights lie in: the data
// file named after the graph (or the only data file there), else the graph.
func (f *Folder) WeightBytes() (int64, error) {
	info, err := os.Stat(f.Model)
	if err != nil {
		return 0, fmt.Errorf("size of model %s: %w", f.Model, cause(err))
	}
	total := info.Size()
	for _, suffix := range []string{".data", "_data"} {
		if info, err := os.Stat(f.Model + suffix); err == nil {
			total += info.Size()
		}
	}
	return total, nil
}

// ParseMetadata reads metadata.json and refuses schemas newer than
// [MetadataVersion].
func ParseMetadata(data []byte) (*Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, jsonError(err)
	}
	if m.SchemaVersion > MetadataVersion {
		return nil, fieldError("schema_version", "%d is newer than the %d this program reads; update the program", m.SchemaVersion, MetadataVersion)
	}
	return &m, nil
}

// readSmall reads a whole file of at most maxConfigBytes.
func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(data) > maxConfigBytes {
		return nil, &tensor.FormatError{Offset: -1, Err: fmt.Errorf("larger than the %d MB such a file may have", maxConfigBytes>>20)}
	}
	return data, nil
}

// cause drops the operation and path from an error of package os; messages
// here name them already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// jsonError gives a JSON error its place as data.
func jsonError(err error) error {
	e := &tensor.FormatError{Offset: -1, Err: err}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		e.Offset = syntax.Offset
	case errors.As(err, &kind):
		e.Offset, e.Field = kind.Offset, kind.Field
	}
	return e
}

func fieldError(field, format string, args ...any) error {
	return &tensor.FormatError{Offset: -1, Field: field, Err: fmt.Errorf(format, args...)}
}
