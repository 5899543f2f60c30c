package hub_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/hub"
	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
)

// TestFilter: what is chosen of repositories as they are on the hub.
func TestFilter(t *testing.T) {
	quants := []string{"README.md", "mmproj-F16.gguf", "imatrix.gguf", "M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-UD-Q4_K_XL.gguf", "M.Q8_0.gguf",
		"BF16/M-BF16-00001-of-00002.gguf", "BF16/M-BF16-00002-of-00002.gguf"}
	for what, tc := range map[string]struct {
		files  []string
		choice string
		want   []string
		err    string
	}{
		"one file":      {[]string{"config.json", "model.safetensors", "tokenizer.model", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.fp32.pt"}, "", []string{"config.json", "model.safetensors", "tokenizer.model"}, ""},
		"any name":      {[]string{"config.json", "weights.safetensors"}, "", []string{"config.json", "weights.safetensors"}, ""},
		"shards":        {[]string{"config.json", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "consolidated.safetensors"}, "", []string{"config.json", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"}, ""},
		"consolidated":  {[]string{"config.json", "consolidated.safetensors"}, "", []string{"config.json", "consolidated.safetensors"}, ""},
		"two sets":      {[]string{"config.json", "a.safetensors", "b.safetensors"}, "", nil, "several sets"},
		"adapter too":   {[]string{"config.json", "model.safetensors", "adapter_model.safetensors"}, "", []string{"config.json", "model.safetensors"}, ""},
		"sub-folders":   {[]string{"config.json", "model.safetensors", "fp16/model.safetensors", "fp16/config.json", "vocab.json", "merges.txt", "added_tokens.json", "LICENCE.txt", "USE_POLICY.md", "img.png"}, "", []string{"LICENCE.txt", "USE_POLICY.md", "added_tokens.json", "config.json", "merges.txt", "model.safetensors", "vocab.json"}, ""},
		"with GGUF":     {[]string{"config.json", "model.safetensors", "m.gguf"}, "", []string{"config.json", "model.safetensors"}, ""},
		"GGUF asked":    {[]string{"config.json", "model.safetensors", "m.gguf"}, "m.gguf", []string{"m.gguf"}, ""},
		"one GGUF":      {[]string{"LICENSE", "config.json", "m.gguf", "mmproj-m.gguf"}, "", []string{"LICENSE", "m.gguf"}, ""},
		"many":          {quants, "", nil, "M-Q4_K_M.gguf (0.0 GB), M-Q4_K_S.gguf"},
		"Q4_K_M":        {quants, "q4_k_m", []string{"M-Q4_K_M.gguf", "README.md"}, ""},
		"Q8_0":          {quants, "Q8_0", []string{"M.Q8_0.gguf", "README.md"}, ""},
		"Q4_K":          {quants, "Q4_K", nil, "none of them is Q4_K"},
		"UD-Q4_K_XL":    {quants, "UD-Q4_K_XL", []string{"M-UD-Q4_K_XL.gguf", "README.md"}, ""},
		"name":          {quants, "M-Q4_K_S.gguf", []string{"M-Q4_K_S.gguf", "README.md"}, ""},
		"split":         {quants, "BF16", []string{"BF16/M-BF16-00001-of-00002.gguf", "BF16/M-BF16-00002-of-00002.gguf", "README.md"}, ""},
		"a shard":       {quants, "M-BF16-00002-of-00002.gguf", []string{"BF16/M-BF16-00001-of-00002.gguf", "BF16/M-BF16-00002-of-00002.gguf", "README.md"}, ""},
		"pattern":       {quants, "*Q8*.gguf", []string{"M.Q8_0.gguf", "README.md"}, ""},
		"wide pattern":  {quants, "*Q4*", nil, "3 of them are *Q4*"},
		"whole name":    {[]string{"M.gguf", "N.gguf"}, "m", []string{"M.gguf"}, ""},
		"bad pattern":   {quants, "[", nil, "none of them is ["},
		"no GGUF there": {[]string{"config.json", "model.safetensors"}, "Q8_0", nil, "no file Q8_0"},
	} {
		t.Run(what, func(t *testing.T) {
			m := &fakehub.Model{Files: map[string][]byte{}}
			for _, f := range tc.files {
				m.Files[f] = []byte(f)
			}
			s := fakehub.New(t, map[string]*fakehub.Model{id: m})
			snap, err := hub.Download(t.Context(), hub.Ref{ID: id, Choice: tc.choice}, options(t, s))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, snap, m, tc.want)
			path := snap.Dir
			if i := slices.IndexFunc(tc.want, func(f string) bool { return strings.HasSuffix(f, ".gguf") }); i >= 0 {
				path = filepath.Join(path, filepath.FromSlash(tc.want[i]))
			}
			if snap.Path() != path {
				t.Errorf("Path %s, want %s", snap.Path(), path)
			}
		})
	}
}

// TestTextFilter: no weights where there is a tokenizer, else the GGUF file.
func TestTextFilter(t *testing.T) {
	for what, tc := range map[string]struct {
		files  []string
		choice string
		want   []string
		err    string
	}{
		"tokenizer":    {[]string{"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "m.gguf", "onnx/tokenizer.json"}, "", []string{"chat_template.jinja", "config.json", "tokenizer.json"}, ""},
		"GGUF asked":   {[]string{"config.json", "model.safetensors", "tokenizer.json", "m.gguf"}, "m", []string{"m.gguf"}, ""},
		"GGUF alone":   {[]string{"config.json", "m.gguf", "mmproj-m.gguf"}, "", []string{"m.gguf"}, ""},
		"many":         {[]string{"a.gguf", "b.gguf"}, "", nil, "name one"},
		"no tokenizer": {[]string{"config.json", "model.safetensors", "tokenizer.model"}, "", nil, "no file tokenizer.json"},
	} {
		t.Run(what, func(t *testing.T) {
			m := &fakehub.Model{Files: map[string][]byte{}}
			for _, f := range tc.files {
				m.Files[f] = []byte(f)
			}
			s := fakehub.New(t, map[string]*fakehub.Model{id: m})
			o := options(t, s)
			o.Filter = hub.Text(tc.choice)
			snap, err := hub.Download(t.Context(), hub.Ref{ID: id, Choice: tc.choice}, o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, snap, m, tc.want)
		})
	}
}

// TestOwnFilter: a caller's filter reads files, and cannot make them up.
func TestOwnFilter(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	o.Filter = func(ctx context.Context, l hub.Listing) ([]hub.File, error) {
		b, err := l.Read(ctx, "config.json")
		if err != nil || string(b) != string(m.Files["config.json"]) {
			t.Errorf("read %q, %v", b, err)
		}
		if _, err := l.Read(ctx, "nothing"); err == nil {
			t.Error("a file that is not there was read")
		}
		f, _ := l.Find("onnx/model.onnx")
		return []hub.File{f}, nil
	}
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, []string{"onnx/model.onnx"})
	o.Filter = func(context.Context, hub.Listing) ([]hub.File, error) {
		return []hub.File{{Path: "../../x", Blob: strings.Repeat("0", 40)}}, nil
	}
	if _, err := hub.Download(t.Context(), ref(t, id), o); err == nil || !strings.Contains(err.Error(), "not in the list") {
		t.Errorf("error %v", err)
	}
}

func TestAdapter(t *testing.T) {
	m := &fakehub.Model{Files: map[string][]byte{"adapter_config.json": []byte("{}"), "adapter_model.safetensors": noise(1, 10), "README.md": nil, "tokenizer.json": nil}}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m, "a/b": {Files: files()}})
	o := options(t, s)
	o.Filter = hub.Adapter
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, []string{"adapter_config.json", "adapter_model.safetensors"})
	if _, err := hub.Download(t.Context(), ref(t, "a/b"), o); err == nil || !strings.Contains(err.Error(), "no file adapter_config.json") {
		t.Errorf("error %v", err)
	}
}

// FuzzParseTree reads lists of files from caches that anybody may have written.
func FuzzParseTree(f *testing.F) {
	f.Add([]byte(`{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}}}`))
	f.Add([]byte(`{"format_version": 1, "files": {"../a": {"size": 1, "blob_id": ""}}}`))
	f.Add([]byte(`{"format_version": 2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := hub.ParseTree(b)
		if err != nil {
			return
		}
		for _, f := range list {
			if !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Size < 0 || len(f.Blob) != 40 || f.SHA256 != "" && len(f.SHA256) != 64 {
				t.Errorf("accepted %+v", f)
			}
		}
	})
}

func FuzzParseRef(f *testing.F) {
	f.Add("a/b@c:d")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := hub.ParseRef(s)
		if err == nil && (r.String() != s || strings.Contains(r.ID, "..") || !filepath.IsLocal(filepath.FromSlash(r.ID))) {
			t.Errorf("%q gave %+v", s, r)
		}
	})
}
