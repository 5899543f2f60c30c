package safetensors

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// defaultShardBytes is the shard size of mlx-lm and of older transformers.
const defaultShardBytes = 5 << 30

// ShardOptions adjusts [NewShardedWriter]. The zero value works.
type ShardOptions struct {
	// MaxBytes of tensor data in one file; a larger tensor gets a file of its
	// own. Default 5 GiB.
	MaxBytes int64
	// Metadata of every file. Default {"format": "pt"}, which transformers
	// demands.
	Metadata map[string]string
	// Index writes the index even where one file holds everything, as mlx-lm
	// does.
	Index bool
}

// ShardedWriter writes model.safetensors, or model-00001-of-0000N.safetensors
// and their index, into a folder. Files carry a temporary name until
// [ShardedWriter.Close], which renames them all. The first error sticks.
type ShardedWriter struct {
	dir    string
	o      ShardOptions
	decls  []Decl
	shards []shard
	shard  int // that is being written
	err    error
	closed bool
}

// shard is one file and its tensors.
type shard struct {
	name  string // final
	decls []Decl
	f     *os.File
	buf   *bufio.Writer
	w     *Writer
}

// NewShardedWriter returns a writer into dir, which must exist.
func NewShardedWriter(dir string, o ShardOptions) *ShardedWriter {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultShardBytes
	}
	if o.Metadata == nil {
		o.Metadata = map[string]string{"format": "pt"}
	}
	return &ShardedWriter{dir: dir, o: o}
}

// Declare adds a tensor. It has no effect after the first tensor is written.
func (s *ShardedWriter) Declare(d Decl) { s.decls = append(s.decls, d) }

// WriteTensor writes the next declared tensor, as [Writer.WriteTensor] does.
// The first call decides what goes into which file.
func (s *ShardedWriter) WriteTensor(name string, data io.WriterTo) error {
	if s.err == nil && s.closed {
		s.err = fmt.Errorf("write tensor %q: the writer is closed", name)
	}
	if s.err == nil && s.shards == nil {
		s.err = s.plan()
	}
	if s.err == nil {
		s.err = s.writeTensor(name, data)
	}
	return s.err
}

// plan fills the shards one after the other.
func (s *ShardedWriter) plan() error {
	var size int64
	for _, d := range s.decls {
		n, err := dataBytes(d.Type, d.Shape)
		if err != nil {
			return fmt.Errorf("declare tensor %q: %w", d.Name, err)
		}
		if len(s.shards) == 0 || size > 0 && n > s.o.MaxBytes-size {
			s.shards = append(s.shards, shard{})
			size = 0
		}
		last := &s.shards[len(s.shards)-1]
		last.decls = append(last.decls, d)
		size += n
	}
	if len(s.shards) == 0 {
		s.shards = make([]shard, 1)
	}
	for i := range s.shards {
		s.shards[i].name = "model.safetensors"
		if len(s.shards) > 1 {
			s.shards[i].name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(s.shards))
		}
	}
	return s.shards[0].open(s.dir, s.o.Metadata)
}

// open creates the shard's file under a temporary name and writes its header.
func (h *shard) open(dir string, metadata map[string]string) error {
	f, err := os.CreateTemp(dir, h.name+".*.tmp")
	if err != nil {
		return fmt.Errorf("create shard %s: %w", h.name, err)
	}
	h.f, h.buf = f, bufio.NewWriterSize(f, 256<<10)
	h.w = NewWriter(h.buf, metadata)
	for _, d := range h.decls {
		h.w.Declare(d)
	}
	if err := h.w.WriteHeader(); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return nil
}

// finish brings a complete shard to disk.
func (h *shard) finish() error {
	err := h.w.Close()
	if err == nil {
		err = h.buf.Flush()
	}
	if err == nil {
		err = h.f.Chmod(0o644)
	}
	if err == nil {
		err = h.f.Sync()
	}
	if err = errors.Join(err, h.f.Close()); err != nil {
		return fmt.Errorf("finish shard %s: %w", h.name, err)
	}
	return nil
}

func (s *ShardedWriter) writeTensor(name string, data io.WriterTo) error {
	h := &s.shards[s.shard]
	if h.w.next == len(h.decls) && s.shard+1 < len(s.shards) {
		if err := h.finish(); err != nil {
			return err
		}
		s.shard++
		h = &s.shards[s.shard]
		if err := h.open(s.dir, s.o.Metadata); err != nil {
			return err
		}
	}
	if err := h.w.WriteTensor(name, data); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return nil
}

// Close finishes the last file, gives all their final names and writes the
// index. After an error, or with tensors missing, it removes what was written
// and returns the error.
func (s *ShardedWriter) Close() error {
	if s.closed {
		return s.err
	}
	if s.err == nil && s.shards == nil {
		s.err = s.plan()
	}
	s.closed = true
	if s.err == nil {
		s.err = s.finishAll()
	}
	if s.err != nil {
		for _, h := range s.shards {
			if h.f != nil {
				h.f.Close()
				os.Remove(h.f.Name())
			}
		}
	}
	return s.err
}

func (s *ShardedWriter) finishAll() error {
	last := &s.shards[s.shard]
	if s.shard+1 < len(s.shards) {
		return fmt.Errorf("close sharded checkpoint: %d files were not written", len(s.shards)-s.shard-1)
	}
	if err := last.finish(); err != nil {
		return err
	}
	for _, h := range s.shards {
		if err := os.Rename(h.f.Name(), filepath.Join(s.dir, h.name)); err != nil {
			return fmt.Errorf("name shard: %w", err)
		}
	}
	if len(s.shards) == 1 && !s.o.Index {
		// An index left from before would send readers to other files.
		if err := os.Remove(filepath.Join(s.dir, IndexName)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the old index: %w", err)
		}
		return nil
	}
	return s.writeIndex()
}

func (s *ShardedWriter) writeIndex() error {
	var idx struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	idx.WeightMap = map[string]string{}
	for _, h := range s.shards {
		for _, t := range h.w.infos {
			idx.Metadata.TotalSize += t.Bytes
			idx.WeightMap[t.Name] = h.name
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(idx); err != nil {
		return fmt.Errorf("encode safetensors index: %w", err)
	}
	tmp := filepath.Join(s.dir, IndexName+".tmp")
	if err := os.WriteFile(tmp, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write safetensors index: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, IndexName)); err != nil {
		return fmt.Errorf("name safetensors index: %w", err)
	}
	return nil
}
