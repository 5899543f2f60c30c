package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// IndexName is the file that lists the shards of a checkpoint.
const IndexName = "model.safetensors.index.json"

// maxIndexBytes bounds the index like the header it stands for.
const maxIndexBytes = maxHeaderBytes

// Index is the content of a model.safetensors.index.json.
type Index struct {
	// TotalSize is metadata.total_size in bytes, -1 where the file gives none.
	// Writers are known to get it wrong (tied weights counted twice), so it is
	// a claim to report, not one to rely on.
	TotalSize int64
	// WeightMap gives the shard's file name for each tensor.
	WeightMap map[string]string
}

// ParseIndex reads an index and refuses shard names that are not plain file
// names, so that an index can only name files beside itself.
func ParseIndex(b []byte) (*Index, error) {
	var raw struct {
		Metadata  map[string]json.RawMessage `json:"metadata"`
		WeightMap map[string]string          `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, formatErr(-1, "index", fmt.Errorf("not the JSON of an index: %w", err))
	}
	if len(raw.WeightMap) == 0 {
		return nil, formatErr(-1, "weight_map", errors.New("names no tensors"))
	}
	for name, shard := range raw.WeightMap {
		if !plainName(shard) {
			return nil, formatErr(-1, "weight_map", fmt.Errorf("tensor %.80q: shard name %.80q is not a plain file name beside the index", name, shard))
		}
	}
	idx := &Index{TotalSize: -1, WeightMap: raw.WeightMap}
	var f float64 // some writers print it as 1.6e+10
	if err := json.Unmarshal(raw.Metadata["total_size"], &f); err == nil && f >= 0 && f < 1<<62 {
		idx.TotalSize = int64(f)
	}
	return idx, nil
}

// plainName reports whether s is one path element on every operating system.
func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\\:\x00") && filepath.IsLocal(s)
}

// Set is a checkpoint of one or several safetensors files.
type Set struct {
	shards []*Reader
	byName map[string]*Reader
	index  *Index
}

// OpenIndex opens the shards that the index at path names, all of them, and
// checks that each listed tensor is in its shard.
func OpenIndex(path string) (*Set, error) {
	b, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read safetensors index: %w", err)
	}
	idx, err := ParseIndex(b)
	if err != nil {
		var fe *tensor.FormatError
		if errors.As(err, &fe) {
			fe.Path = path
		}
		return nil, fmt.Errorf("read safetensors index: %w", err)
	}
	used := map[string]bool{}
	for _, shard := range idx.WeightMap {
		used[shard] = true
	}
	names := make([]string, 0, len(used))
	for shard := range used {
		names = append(names, shard)
	}
	slices.Sort(names)
	dir := filepath.Dir(path)
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
		if _, err := os.Stat(names[i]); errors.Is(err, os.ErrNotExist) {
			return nil, &tensor.FormatError{Path: path, Offset: -1, Field: "weight_map", Err: fmt.Errorf("shard %s is missing: download it again", name)}
		}
	}
	s, err := OpenFiles(names...)
	if err != nil {
		return nil, err
	}
	s.index = idx
	if err := s.checkListed(path); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexBytes+1))
	if err == nil && len(b) > maxIndexBytes {
		err = &tensor.FormatError{Path: path, Offset: maxIndexBytes, Err: errors.New("larger than any index")}
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), err
}

// checkListed compares the index with what the shards hold.
func (s *Set) checkListed(path string) error {
	var missing []string
	for name, shard := range s.index.WeightMap {
		if r := s.byName[name]; r == nil || filepath.Base(r.path) != shard {
			missing = append(missing, fmt.Sprintf("%.80q in %s", name, shard))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	n := len(missing)
	return &tensor.FormatError{Path: path, Offset: -1, Field: "weight_map", Err: fmt.Errorf(
		"lists %d tensors that are not where it says: %s", n, strings.Join(missing[:min(n, 5)], ", ")+more(n-5))}
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// OpenFiles opens several files as one checkpoint. A tensor that is in two of
// them is refused.
func OpenFiles(paths ...string) (_ *Set, err error) {
	s := &Set{byName: map[string]*Reader{}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, p := range paths {
		r, err := Open(p)
		if err != nil {
			return nil, err
		}
		s.shards = append(s.shards, r)
		for _, t := range r.infos {
			if o := s.byName[t.Name]; o != nil {
				return nil, &tensor.FormatError{Path: p, Offset: t.Offset, Field: fmt.Sprintf("tensor %.80q", t.Name), Err: fmt.Errorf("is in %s too", filepath.Base(o.path))}
			}
			s.byName[t.Name] = r
		}
	}
	return s, nil
}

// Shards lists the open files.
func (s *Set) Shards() []*Reader { return s.shards }

// Index is the index the set was opened by, nil for [OpenFiles].
func (s *Set) Index() *Index { return s.index }

// Bytes is the size of all tensors.
func (s *Set) Bytes() (n int64) {
	for _, r := range s.shards {
		for _, t := range r.infos {
			n += t.Bytes
		}
	}
	return n
}

// Tensor returns the named tensor, its elements unread.
func (s *Set) Tensor(name string) (*tensor.Tensor, bool) {
	r := s.byName[name]
	if r == nil {
		return nil, false
	}
	return r.Tensor(name)
}

// Tensors returns the tensors of all shards, shard by shard.
func (s *Set) Tensors() []*tensor.Tensor {
	var out []*tensor.Tensor
	for _, r := range s.shards {
		out = append(out, r.Tensors()...)
	}
	return out
}

// Close closes all files.
func (s *Set) Close() error {
	var errs []error
	for _, r := range s.shards {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
