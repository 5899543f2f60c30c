package onnxruntime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// artifactKey is what compiled files depend on. A change of any of it gives
// them another folder.
type artifactKey struct {
	Provider string   `json:"provider"`
	Runtime  string   `json:"onnxruntime"`
	Model    string   `json:"model"` // for people: the folder it was loaded from first
	Files    []string `json:"files"`
	GPU      string   `json:"gpu,omitempty"`
	Driver   string   `json:"driver,omitempty"`
	TensorRT string   `json:"tensorrt,omitempty"`
	Shapes   string   `json:"shapes,omitempty"` // the range an engine is built for
}

// keyFile is written into the folder, so that a person can tell the folders
// apart and remove old ones.
const keyFile = "key.json"

// artifactDir makes the cache folder of one artifact for one provider; "" where
// the provider compiles nothing or no cache folder is known.
func (b *Backend) artifactDir(r *request, p *provider) (string, error) {
	if p.compiles == "" || b.o.CacheDir == "" {
		return "", nil
	}
	files, err := contentOf(r.folder)
	if err != nil {
		return "", fmt.Errorf("name the cache folder of %s: %w", r.folder.Dir, err)
	}
	key := artifactKey{Provider: p.name, Runtime: b.lib.Version(), Files: files}
	if p.memory != "" {
		// Another range would build the engine anew over the old one.
		key.Shapes = fmt.Sprintf("context %d, chunk %d", r.context, r.open.Chunk)
		key.GPU, key.Driver = b.machine.device(r.ctx, r.options)
		key.TensorRT = b.machine.fileVersion(p.file, "libnvinfer.so")
		if key.TensorRT == "" {
			key.TensorRT = b.machine.fileVersion(p.file, "nvinfer")
		}
	}
	return key.folder(filepath.Join(b.o.CacheDir, p.name), r.folder.Dir)
}

// folder makes the key's folder below root.
func (k artifactKey) folder(root, model string) (string, error) {
	text, err := json.Marshal(k)
	if err != nil {
		return "", fmt.Errorf("name a cache folder: %w", err)
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(root, hex.EncodeToString(sum[:10]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	k.Model = model
	if text, err = json.MarshalIndent(k, "", " "); err != nil {
		return "", fmt.Errorf("describe a cache folder: %w", err)
	}
	file := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"."+keyFile)
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("describe a cache folder: %w", err)
	}
	return dir, nil
}

// contentOf names the graphs and data files by content: by the sha256 in
// metadata.json, else the graph by its own and data files, which are large, by
// size and time.
func contentOf(folder *modeldir.Folder) ([]string, error) {
	var list []string
	if m := folder.Metadata; m != nil {
		for _, f := range m.Files {
			ext := filepath.Ext(f.Name)
			if f.SHA256 == "" || ext != ".onnx" && ext != ".data" {
				continue
			}
			info, err := os.Stat(filepath.Join(folder.Dir, filepath.FromSlash(f.Name)))
			if err != nil || info.Size() != f.Bytes {
				continue // not what was described: another program changed it
			}
			list = append(list, f.Name+" "+f.SHA256)
		}
	}
	if len(list) > 0 {
		slices.Sort(list)
		return list, nil
	}
	file, err := os.Open(folder.Model)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return nil, err
	}
	list = append(list, filepath.Base(folder.Model)+" "+hex.EncodeToString(h.Sum(nil)))
	for _, suffix := range []string{".data", "_data"} {
		if info, err := os.Stat(folder.Model + suffix); err == nil {
			list = append(list, fmt.Sprintf("%s %d bytes of %d", info.Name(), info.Size(), info.ModTime().UnixNano()))
		}
	}
	return list, nil
}
