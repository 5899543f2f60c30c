package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// bin puts a header together: strings as raw bytes, name as a counted string.
type name string

func bin(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			b = append(b, v...)
		case name:
			b = binary.LittleEndian.AppendUint64(b, uint64(len(v)))
			b = append(b, v...)
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case int: // zeros
			b = append(b, make([]byte, v)...)
		}
	}
	return b
}

func u32(n uint32) uint32 { return n }
func u64(n uint64) uint64 { return n }

// head is a header's start with the given counts.
func head(tensors, keys uint64) []any {
	return []any{"GGUF", u32(3), tensors, keys}
}

func newReader(b []byte) (*gguf.Reader, error) {
	return gguf.NewReader(bytes.NewReader(b), int64(len(b)))
}

// f32Tensor is the info of a tensor of n F32 at a data offset.
func f32Tensor(n name, elements, offset uint64) []any {
	return []any{n, u32(1), elements, u32(0), offset}
}

func TestBadFiles(t *testing.T) {
	join := func(parts ...[]any) []byte { return bin(slices.Concat(parts...)...) }
	for _, tc := range []struct {
		name        string
		file        []byte
		want        string
		unsupported bool
	}{
		{"empty", nil, "magic: wants 4 more bytes", false},
		{"magic", bin("GGML", 40), `"GGML", want "GGUF"`, false},
		{"version 1", bin("GGUF", u32(1), 40), "GGUF version 1", true},
		{"version 4", bin("GGUF", u32(4), 40), "GGUF version 4", true},
		{"big endian", bin("GGUF", u32(3<<24), 40), "big-endian", true},
		{"no counts", bin("GGUF", u32(3)), "tensor count: wants 8 more bytes", false},
		{"tensor count lies", join(head(1<<40, 0)), "tensor count: 1099511627776 of them, more than", false},
		{"key count lies", join(head(0, 1<<63)), "key count: 9223372036854775808 of them", false},
		{"key count beyond the end", join(head(0, 2), []any{name("a"), u32(4), u32(1), 12}), `wants 1 more bytes, but the file ends after 0`, false},
		{"key length lies", join(head(0, 1), []any{u64(1 << 50), 40}), "a name of 1125899906842624 bytes", false},
		{"key longer than the file", join(head(0, 1), []any{u64(1000), 40}), "key 0: wants 1000 more bytes", false},
		{"value type", join(head(0, 1), []any{name("a"), u32(13), 8}), `key "a": value type 13`, false},
		{"string length lies", join(head(0, 1), []any{name("a"), u32(8), u64(1 << 40), 8}), `key "a": wants 1099511627776 more bytes`, false},
		{"string length beyond 63 bits", join(head(0, 1), []any{name("a"), u32(8), u64(1<<64 - 1), 8}), `key "a": wants 18446744073709551615 more bytes`, false},
		{"array count lies", join(head(0, 1), []any{name("a"), u32(9), u32(4), u64(1 << 61), 8}), `key "a": 2305843009213693952 of them`, false},
		{"array of strings lies", join(head(0, 1), []any{name("a"), u32(9), u32(8), u64(2), 8}), `key "a": 2 of them`, false},
		{"string in an array lies", join(head(0, 1), []any{name("a"), u32(9), u32(8), u64(1), u64(9), 8}), `key "a": wants 9 more bytes`, false},
		{"array element type", join(head(0, 1), []any{name("a"), u32(9), u32(99), u64(1), 8}), "array element type 99", false},
		{"nested too deep", join(head(0, 1), []any{name("a"), u32(9),
			u32(9), u64(1), u32(9), u64(1), u32(9), u64(1), u32(9), u64(1), u32(9), u64(1), u32(4), u64(1), u32(1), 64}), "nested more than 4 deep", false},
		{"key twice", join(head(0, 2), []any{name("a"), u32(4), u32(1), name("a"), u32(4), u32(1)}), `key "a": is there twice`, false},
		{"alignment 0", join(head(0, 1), []any{name("general.alignment"), u32(4), u32(0)}), "0 is not a power of two", false},
		{"alignment 24", join(head(0, 1), []any{name("general.alignment"), u32(4), u32(24)}), "24 is not a power of two", false},
		{"alignment a string", join(head(0, 1), []any{name("general.alignment"), u32(8), name("x")}), "is a str, want a whole number", false},
		{"tensor twice", join(head(2, 0), f32Tensor("t", 1, 0), f32Tensor("t", 1, 32), []any{64}), `tensor "t": is there twice`, false},
		{"five dimensions", join(head(1, 0), []any{name("t"), u32(5), u64(1), u64(1), u64(1), u64(1), u64(1), u32(0), u64(0), 64}), "5 dimensions", false},
		{"dimension beyond 63 bits", join(head(1, 0), f32Tensor("t", 1<<63, 0)), "dimension 0 is 9223372036854775808", false},
		{"product overflows", join(head(1, 0), []any{name("t"), u32(2), u64(1 << 32), u64(1 << 32), u32(0), u64(0), 64}), "more elements than 64 bits can count", false},
		{"bytes overflow", join(head(1, 0), f32Tensor("t", 1<<62, 0)), "more elements than 64 bits can count", false},
		{"type unknown", join(head(1, 0), []any{name("t"), u32(1), u64(32), u32(5), u64(0), 64}), `tensor "t" of ggml type 5`, true},
		{"part of a block", join(head(1, 0), []any{name("t"), u32(1), u64(33), u32(8), u64(0), 64}), "rows of 33 elements are not whole blocks of Q8_0", false},
		{"unaligned", join(head(1, 0), f32Tensor("t", 1, 4), []any{64}), "data offset 4 is not a multiple", false},
		{"truncated data", join(head(1, 0), f32Tensor("t", 64, 0), []any{100}), "reach beyond the end of the file", false},
		{"far offset", join(head(1, 0), f32Tensor("t", 1, 1<<62), []any{100}), "reach beyond the end of the file", false},
		{"overlap", join(head(2, 0), f32Tensor("t", 16, 0), f32Tensor("u", 1, 32), []any{200}), `tensor "u": overlaps tensor "t"`, false},
		{"same place", join(head(2, 0), f32Tensor("t", 1, 0), f32Tensor("u", 1, 0), []any{200}), `tensor "u": overlaps tensor "t"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newReader(tc.file)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q in it", err, tc.want)
			}
			var fe *tensor.FormatError
			var ue *tensor.UnsupportedError
			if tc.unsupported && !errors.As(err, &ue) || !tc.unsupported && !errors.As(err, &fe) {
				t.Errorf("error %v is of the wrong kind", err)
			}
		})
	}
}

// TestMemory: counts that lie must not cost memory.
func TestMemory(t *testing.T) {
	for _, b := range [][]byte{
		bin(append(head(1<<40, 1<<40), 100)...),
		bin(append(head(0, 1), name("a"), u32(9), u32(8), u64(1<<40), 64)...),
		bin(append(head(0, 1), name("a"), u32(8), u64(1<<40), 64)...),
		bin(append(head(1, 0), name("t"), u32(1), u64(1<<40), u32(0), u64(0), 64)...),
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

// raw makes an io.WriterTo of bytes.
type raw []byte

func (r raw) WriteTo(w io.Writer) (int64, error) { n, err := w.Write(r); return int64(n), err }

// keys are one of each type.
var keys = []struct {
	key   string
	value any
}{
	{"general.architecture", "llama"}, {"u8", uint8(200)}, {"i8", int8(-3)}, {"u16", uint16(60000)}, {"i16", int16(-300)},
	{"u32", uint32(4e9)}, {"i32", int32(-70000)}, {"f32", float32(1e-5)}, {"yes", true}, {"no", false},
	{"u64", uint64(1 << 40)}, {"i64", int64(-1 << 40)}, {"f64", 0.1}, {"empty", ""},
	{"strings", []string{"a", "", "ĠĠ", "\x00"}}, {"i32s", []int32{1, -2}}, {"f32s", []float32{-0.5, 3}}, {"bools", []bool{true, false}},
	{"u8s", []uint8{7}}, {"u64s", []uint64{1 << 50}},
}

// write makes a file with all keys and three tensors.
func write(t testing.TB, o gguf.WriterOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gguf.NewWriter(&b, o)
	for _, k := range keys {
		w.Set(k.key, k.value)
	}
	w.Declare(gguf.Decl{Name: "m", Type: ggml.F32, Shape: tensor.Shape{2, 3}})
	w.Declare(gguf.Decl{Name: "q", Type: ggml.Q8_0, Shape: tensor.Shape{2, 32}})
	w.Declare(gguf.Decl{Name: "v", Type: ggml.F16, Shape: tensor.Shape{3}})
	q := make([]byte, 68)
	for i := range q {
		q[i] = byte(i)
	}
	err := errors.Join(
		w.WriteHeader(),
		w.WriteTensor("m", tensor.Stream{R: tensor.Floats{0, 1, 2, 3, 4, 5}, Elements: 6, DType: tensor.F32}),
		w.WriteTensor("q", raw(q)),
		w.WriteTensor("v", tensor.Stream{R: tensor.Floats{1, 2, -3}, Elements: 3, DType: tensor.F16}),
		w.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for _, alignment := range []int64{0, 8, 32, 4096} {
		b := write(t, gguf.WriterOptions{Alignment: alignment})
		r, err := newReader(b)
		if err != nil {
			t.Fatal(err)
		}
		checkKeys(t, r)
		m, _ := r.Tensor("m")
		got := make([]float32, 4)
		if err := m.ReadFloat32(got, 2); err != nil || !slices.Equal(got, []float32{2, 3, 4, 5}) || !m.Shape.Equal(tensor.Shape{2, 3}) {
			t.Errorf("tensor m: %v, %v, %v", m.Shape, got, err)
		}
		q, _ := r.Section("q")
		text, err := io.ReadAll(q)
		if err != nil || len(text) != 68 || text[67] != 67 {
			t.Errorf("tensor q: %v, %v", text, err)
		}
		if q, _ := r.Tensor("q"); q.Type != "Q8_0" || q.Bytes != 68 {
			t.Errorf("tensor q: %+v", q)
		}
		if !bytes.Equal(b, write(t, gguf.WriterOptions{Alignment: alignment})) {
			t.Error("two runs differ")
		}
	}
}

func checkKeys(t *testing.T, r *gguf.Reader) {
	t.Helper()
	for _, k := range keys {
		v, ok := r.Value(k.key)
		if !ok {
			t.Errorf("no key %s", k.key)
			continue
		}
		var got any
		var err error
		same := func() bool { return got == k.value }
		switch want := k.value.(type) {
		case string:
			got, err = v.Text()
		case bool:
			got, err = v.Bool()
		case float32:
			var f float64
			f, err = v.Float()
			got = float32(f)
		case float64:
			got, err = v.Float()
		case []string:
			var s []string
			s, err = v.Strings()
			same = func() bool { return slices.Equal(s, want) }
		case []float32:
			var s []float32
			s, err = v.Floats()
			same = func() bool { return slices.Equal(s, want) }
		case []int32:
			var s []int64
			s, err = v.Ints()
			same = func() bool { return slices.Equal(s, []int64{1, -2}) }
		case []uint8, []uint64, []bool:
			same = func() bool { return v.Type == gguf.Array }
		default:
			var n int64
			n, err = v.Int()
			want64, _ := map[string]int64{"u8": 200, "i8": -3, "u16": 60000, "i16": -300, "u32": 4e9, "i32": -70000, "u64": 1 << 40, "i64": -1 << 40}[k.key]
			same = func() bool { return n == want64 }
		}
		if err != nil || !same() {
			t.Errorf("key %s: %v, %v, want %v", k.key, got, err, k.value)
		}
		if v.Summary(100) == "" {
			t.Errorf("key %s has no summary", k.key)
		}
	}
}

// TestWrongType asks each key for types it is not of.
func TestWrongType(t *testing.T) {
	r, err := newReader(write(t, gguf.WriterOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string) gguf.Value { v, _ := r.Value(key); return v }
	for _, tc := range []struct {
		key  string
		read func(gguf.Value) error
		want string
	}{
		{"u32", func(v gguf.Value) error { _, err := v.Text(); return err }, "key u32: is a u32, want a string"},
		{"f32", func(v gguf.Value) error { _, err := v.Int(); return err }, "is a f32, want a whole number"},
		{"strings", func(v gguf.Value) error { _, err := v.Ints(); return err }, "is an array of 4 str, want an array of whole numbers"},
		{"i32s", func(v gguf.Value) error { _, err := v.Strings(); return err }, "want an array of strings"},
		{"yes", func(v gguf.Value) error { _, err := v.Float(); return err }, "want a number"},
		{"u32", func(v gguf.Value) error { _, err := v.Bool(); return err }, "want a bool"},
		{"bools", func(v gguf.Value) error { _, err := v.Floats(); return err }, "want an array of numbers"},
	} {
		if err := tc.read(get(tc.key)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.key, err, tc.want)
		}
	}
}

func TestWriterErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		use  func(w *gguf.Writer) error
		want string
	}{
		{"key twice", func(w *gguf.Writer) error { w.Set("a", true); w.Set("a", true); return w.WriteHeader() }, "key a: it is set already"},
		{"type", func(w *gguf.Writer) error { w.Set("a", 3); return w.WriteHeader() }, "a int is none of"},
		{"empty array", func(w *gguf.Writer) error { w.Set("a", []string{}); return w.WriteHeader() }, "empty array"},
		{"no header", func(w *gguf.Writer) error { return w.Close() }, "header was never written"},
		{"late key", func(w *gguf.Writer) error { w.WriteHeader(); w.Set("a", true); return w.Close() }, "header is written already"},
		{"missing tensor", func(w *gguf.Writer) error {
			w.Declare(gguf.Decl{Name: "t", Type: ggml.F32, Shape: tensor.Shape{1}})
			w.WriteHeader()
			return w.Close()
		}, `tensor "t" and 0 more were not written`},
		{"wrong size", func(w *gguf.Writer) error {
			w.Declare(gguf.Decl{Name: "t", Type: ggml.F32, Shape: tensor.Shape{1}})
			w.WriteHeader()
			return w.WriteTensor("t", raw("12345"))
		}, "5 bytes came, 4 were declared"},
		{"part of a block", func(w *gguf.Writer) error {
			w.Declare(gguf.Decl{Name: "t", Type: ggml.Q4_K, Shape: tensor.Shape{2, 576}})
			return w.WriteHeader()
		}, "rows of 576 elements are not whole blocks of Q4_K"},
	} {
		if err := tc.use(gguf.NewWriter(io.Discard, gguf.WriterOptions{})); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	b := write(t, gguf.WriterOptions{})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-64], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("a truncated file: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(write(f, gguf.WriterOptions{}))
	f.Add(bin(append(head(1, 0), append(f32Tensor("t", 2, 0), 64)...)...))
	f.Add(bin(append(head(0, 1), name("a"), u32(9), u32(9), u64(1), u32(4), u64(1), u32(1))...))
	f.Add(bin("GGUF", u32(2), u64(0), u64(0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newReader(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		w := gguf.NewWriter(&out, gguf.WriterOptions{})
		for _, v := range r.Values() {
			v.Text()
			v.Bool()
			v.Int()
			v.Float()
			v.Strings()
			v.Ints()
			v.Floats()
			if v.Summary(64) == "" {
				t.Errorf("key %q has no summary", v.Key)
			}
			if v.Key != "general.alignment" {
				w.Copy(v)
			}
		}
		for _, i := range r.Infos() {
			w.Declare(gguf.Decl{Name: i.Name, Type: i.Type, Shape: i.Shape})
			x, _ := r.Tensor(i.Name)
			x.ReadFloat32(make([]float32, min(x.Elements(), 300)), 0)
		}
		if err := w.WriteHeader(); err != nil {
			t.Fatal(err)
		}
		for _, i := range r.Infos() {
			s, _ := r.Section(i.Name)
			text, err := io.ReadAll(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.WriteTensor(i.Name, raw(text)); err != nil {
				t.Fatal(err)
			}
		}
		again, err := newReader(out.Bytes())
		if err != nil {
			t.Fatalf("our own file: %v", err)
		}
		for k, i := range r.Infos() {
			j := again.Infos()[k]
			if i.Name != j.Name || i.Type != j.Type || !i.Shape.Equal(j.Shape) || i.Bytes != j.Bytes {
				t.Fatalf("%+v came back as %+v", i, j)
			}
		}
	})
}
