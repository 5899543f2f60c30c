package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// file builds a file of a header text and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func newReader(b []byte) (*safetensors.Reader, error) {
	return safetensors.NewReader(bytes.NewReader(b), int64(len(b)))
}

// TestBadHeaders: each file is broken in one way.
func TestBadHeaders(t *testing.T) {
	const f32 = `{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, tc := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "the file has 0 bytes"},
		{"seven bytes", make([]byte, 7), "the file has 7 bytes"},
		{"length beyond the file", binary.LittleEndian.AppendUint64(nil, 99), "99 bytes, but the file has only 0 after it: the file is truncated"},
		{"length beyond the limit", binary.LittleEndian.AppendUint64(nil, 1<<40), "more than the format's limit"},
		{"length beyond 63 bits", binary.LittleEndian.AppendUint64(nil, 1<<63+5), "more than the format's limit"},
		{"no header", file("", 0), "does not start with '{'"},
		{"not JSON", file("[]", 0), "does not start with '{'"},
		{"cut JSON", file(`{"a":{"dtype":"F32"`, 0), "not JSON: unexpected EOF"},
		{"not UTF-8", file("{\"\xff\":1}", 0), "not valid UTF-8"},
		{"text after it", file(`{} x`, 0), "text after the JSON object"},
		{"tensor is no object", file(`{"a":3}`, 0), `tensor "a": "3" where { belongs`},
		{"name twice", file(`{"a":`+f32+`,"a":`+f32+`}`, 8), `"a" is there twice`},
		{"key twice", file(`{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,2]}}`, 2), `"dtype" is there twice`},
		{"no dtype", file(`{"a":{"shape":[2],"data_offsets":[0,8]}}`, 8), "wants dtype, shape and two data_offsets"},
		{"three offsets", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}`, 8), "wants dtype, shape and two data_offsets"},
		{"unknown dtype", file(`{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}`, 8), `dtype "Q4" is none`},
		{"dtype no string", file(`{"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}}`, 8), "dtype is not a string"},
		{"negative extent", file(`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), `shape holds "-2"`},
		{"fraction", file(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,8]}}`, 8), `shape holds "1.5"`},
		{"product overflows", file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), "more elements than 64 bits can count"},
		{"bytes overflow", file(`{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,8]}}`, 8), "more elements than 64 bits can count"},
		{"span and shape", file(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "data_offsets span 8 bytes, but [3] of F32 needs 12"},
		{"dtype and span", file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}}`, 8), "[2] of F16 needs 4"},
		{"backwards", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "run backwards"},
		{"truncated data", file(`{"a":`+f32+`}`, 7), "reach beyond the end of the file"},
		{"overlap", file(`{"a":`+f32+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), `tensor "b": overlaps tensor "a"`},
		{"same place", file(`{"a":`+f32+`,"b":`+f32+`}`, 8), `overlaps tensor "a"`},
		{"hole", file(`{"a":`+f32+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16), "4 bytes in front of it belong to no tensor"},
		{"hole at the start", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "1 bytes in front of it"},
		{"bytes after", file(`{"a":`+f32+`}`, 9), "1 bytes after the last tensor"},
		{"far offset", file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`, 0), "belong to no tensor"},
		{"half a byte", file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), "do not fill whole bytes"},
		{"metadata no object", file(`{"__metadata__":3}`, 0), "where { belongs"},
		{"metadata no string", file(`{"__metadata__":{"a":3}}`, 0), `the value of "a" is not a string`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newReader(tc.file)
			var fe *tensor.FormatError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want a FormatError with %q", err, tc.want)
			}
		})
	}
}

func TestGoodHeaders(t *testing.T) {
	for _, tc := range []struct {
		name    string
		file    []byte
		tensors int
	}{
		{"no tensors", file("{}", 0), 0},
		{"padded", file("{}      ", 0), 0},
		{"scalar", file(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4), 1},
		{"empty tensors", file(`{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"b":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}`, 0), 2},
		{"declared out of order", file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2), 2},
		{"unknown member", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":[1]}}}`, 1), 1},
		{"other types", file(`{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"F4","shape":[4],"data_offsets":[2,4]}}`, 4), 2},
		{"metadata", file(`{"__metadata__":{"format":"pt"}}`, 0), 0},
	} {
		r, err := newReader(tc.file)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if len(r.Tensors()) != tc.tensors {
			t.Errorf("%s: %d tensors, want %d", tc.name, len(r.Tensors()), tc.tensors)
		}
	}
}

// TestUnaligned reads floats that start at an odd offset, whole and in part.
func TestUnaligned(t *testing.T) {
	h := `{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[1,9]}}`
	b := file(h, 1)
	for _, v := range []float32{1, -2, 0.5, 3} {
		b = binary.LittleEndian.AppendUint16(b, tensor.F32ToBF16(v))
	}
	r, err := newReader(b)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := r.Tensor("a")
	if !ok || a.Type != "BF16" || !a.Shape.Equal(tensor.Shape{2, 2}) || a.Bytes != 8 {
		t.Fatalf("tensor a: %+v, %v", a, ok)
	}
	got := make([]float32, 2)
	if err := a.ReadFloat32(got, 1); err != nil || got[0] != -2 || got[1] != 0.5 {
		t.Errorf("elements 1 and 2: %v, %v", got, err)
	}
	for _, off := range []int64{-1, 3, 1 << 62} {
		if err := a.ReadFloat32(got, off); err == nil {
			t.Errorf("2 elements at %d of 4 were read", off)
		}
	}
	if _, ok := r.Tensor("c"); ok {
		t.Error("a tensor c was found")
	}
}

func TestUnsupportedType(t *testing.T) {
	r, err := newReader(file(`{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}`, 2))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := r.Tensor("a")
	var ue *tensor.UnsupportedError
	if err := a.ReadFloat32(make([]float32, 1), 0); !errors.As(err, &ue) {
		t.Errorf("reading fp8: %v, want an UnsupportedError", err)
	}
}

// TestMemory: counts that lie must not cost memory.
func TestMemory(t *testing.T) {
	for _, b := range [][]byte{
		binary.LittleEndian.AppendUint64(nil, 99_999_999),
		file(`{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}`, 4),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := newReader(b); err == nil {
			t.Error("a lying file was opened")
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
			t.Errorf("%d bytes allocated for a file of %d", n, len(b))
		}
	}
}

// folder writes files into a new folder.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func one(name string) []byte {
	return file(fmt.Sprintf(`{%q:{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, name), 1)
}

func TestIndex(t *testing.T) {
	for _, tc := range []struct {
		name  string
		index string
		files map[string][]byte
		want  string // "" = opens
	}{
		{"good", `{"metadata":{"total_size":2},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a"), "2.safetensors": one("b")}, ""},
		{"no metadata", `{"weight_map":{"a":"1.safetensors"}}`, map[string][]byte{"1.safetensors": one("a")}, ""},
		{"float total", `{"metadata":{"total_size":2.0e0},"weight_map":{"a":"1.safetensors"}}`, map[string][]byte{"1.safetensors": one("a")}, ""},
		{"shard missing", `{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a")}, "shard 2.safetensors is missing"},
		{"tensor missing", `{"weight_map":{"a":"1.safetensors","c":"1.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a")}, `1 tensors that are not where it says: "c" in 1.safetensors`},
		{"tensor elsewhere", `{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a"), "2.safetensors": one("b")}, "2 tensors that are not where it says"},
		{"tensor twice", `{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a"), "2.safetensors": one("a")}, `tensor "a": is in 1.safetensors too`},
		{"truncated shard", `{"weight_map":{"a":"1.safetensors"}}`,
			map[string][]byte{"1.safetensors": one("a")[:40]}, "1.safetensors"},
		{"up", `{"weight_map":{"a":"../1.safetensors"}}`, nil, `shard name "../1.safetensors" is not a plain file name`},
		{"absolute", `{"weight_map":{"a":"/etc/passwd"}}`, nil, "not a plain file name"},
		{"backslash", `{"weight_map":{"a":"..\\1.safetensors"}}`, nil, "not a plain file name"},
		{"drive", `{"weight_map":{"a":"C:1.safetensors"}}`, nil, "not a plain file name"},
		{"folder", `{"weight_map":{"a":"x/1.safetensors"}}`, nil, "not a plain file name"},
		{"dots", `{"weight_map":{"a":".."}}`, nil, "not a plain file name"},
		{"no name", `{"weight_map":{"a":""}}`, nil, "not a plain file name"},
		{"empty", `{"weight_map":{}}`, nil, "names no tensors"},
		{"not JSON", `{"weight_map":`, nil, "not the JSON of an index"},
		{"wrong types", `{"weight_map":[1]}`, nil, "not the JSON of an index"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := folder(t, tc.files)
			path := filepath.Join(dir, safetensors.IndexName)
			if err := os.WriteFile(path, []byte(tc.index), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := safetensors.OpenIndex(path)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := s.Tensor("a"); !ok || s.Bytes() != int64(len(s.Tensors())) {
					t.Errorf("tensor a: %v, %d bytes in %d tensors", ok, s.Bytes(), len(s.Tensors()))
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	f.Add(file("{}", 0))
	f.Add(one("a"))
	f.Add(file(`{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}`, 12))
	f.Add(file(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newReader(b)
		if err != nil {
			return
		}
		// What was read can be written and read again.
		var out bytes.Buffer
		w := safetensors.NewWriter(&out, r.Metadata())
		for _, i := range r.Infos() {
			w.Declare(safetensors.Decl{Name: i.Name, Type: i.Type, Shape: i.Shape})
		}
		if err := w.WriteHeader(); err != nil {
			t.Fatal(err)
		}
		for _, i := range r.Infos() {
			s, _ := r.Section(i.Name)
			if err := w.WriteTensor(i.Name, section{s}); err != nil {
				t.Fatal(err)
			}
			a, _ := r.Tensor(i.Name)
			a.ReadFloat32(make([]float32, min(a.Elements(), 16)), 0)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := newReader(out.Bytes())
		if err != nil {
			t.Fatalf("our own file: %v", err)
		}
		if len(again.Infos()) != len(r.Infos()) || len(again.Metadata()) != len(r.Metadata()) {
			t.Fatal("tensors or metadata were lost")
		}
		for k, i := range r.Infos() {
			j := again.Infos()[k]
			if i.Name != j.Name || i.Type != j.Type || !i.Shape.Equal(j.Shape) || i.Bytes != j.Bytes {
				t.Fatalf("%+v came back as %+v", i, j)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":2},"weight_map":{"a":"1.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../1.safetensors"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		idx, err := safetensors.ParseIndex(b)
		if err != nil {
			return
		}
		for _, name := range idx.WeightMap {
			if filepath.Base(name) != name || name == ".." {
				t.Errorf("shard name %q leaves the folder", name)
			}
		}
	})
}
