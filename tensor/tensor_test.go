package tensor_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func TestDType(t *testing.T) {
	sizes := map[tensor.DType]int{
		tensor.F64: 8, tensor.F32: 4, tensor.F16: 2, tensor.BF16: 2, tensor.I64: 8, tensor.I32: 4, tensor.I16: 2,
		tensor.I8: 1, tensor.U64: 8, tensor.U32: 4, tensor.U16: 2, tensor.U8: 1, tensor.Bool: 1,
	}
	for d, size := range sizes {
		if got, ok := tensor.ParseDType(d.String()); !ok || got != d {
			t.Errorf("ParseDType(%q) is %v, %v", d.String(), got, ok)
		}
		if d.Size() != size {
			t.Errorf("%v has %d bytes, want %d", d, d.Size(), size)
		}
		if isFloat := strings.Contains(d.String(), "F"); d.IsFloat() != isFloat {
			t.Errorf("%v: IsFloat is %v", d, d.IsFloat())
		}
	}
	for _, name := range []string{"", "invalid", "f32", "F8_E4M3", "Q4_K"} {
		if d, ok := tensor.ParseDType(name); ok {
			t.Errorf("ParseDType(%q) is %v, want none", name, d)
		}
	}
	if d := tensor.DType(77); d.Size() != 0 || d.String() != "DType(77)" || d.IsFloat() {
		t.Errorf("an unknown type has size %d and prints as %v", d.Size(), d)
	}
}

func TestShape(t *testing.T) {
	for _, c := range []struct {
		s  tensor.Shape
		n  int64
		ok bool
	}{
		{nil, 1, true},
		{tensor.Shape{0}, 0, true},
		{tensor.Shape{3, 4, 5}, 60, true},
		{tensor.Shape{-1}, 0, false},
		{tensor.Shape{0, -1}, 0, false},
		{tensor.Shape{math.MaxInt64}, math.MaxInt64, true},
		{tensor.Shape{math.MaxInt64, 1}, math.MaxInt64, true},
		{tensor.Shape{math.MaxInt64, 2}, 0, false},
		{tensor.Shape{1 << 32, 1 << 31}, 0, false},
		{tensor.Shape{1 << 31, 1 << 31}, 1 << 62, true},
		{tensor.Shape{0, math.MaxInt64, 2}, 0, true},
	} {
		if n, ok := c.s.Elements(); n != c.n || ok != c.ok {
			t.Errorf("%v has %d elements, %v; want %d, %v", c.s, n, ok, c.n, c.ok)
		}
	}
	a := tensor.Shape{2, 3}
	for _, c := range []struct {
		b    tensor.Shape
		want bool
	}{{tensor.Shape{2, 3}, true}, {tensor.Shape{3, 2}, false}, {tensor.Shape{2}, false}, {tensor.Shape{2, 3, 1}, false}, {nil, false}} {
		if a.Equal(c.b) != c.want {
			t.Errorf("%v.Equal(%v) is not %v", a, c.b, c.want)
		}
	}
	if got := a.String(); got != "[2, 3]" {
		t.Errorf("the shape prints as %q", got)
	}
	if got := tensor.Shape(nil).String(); got != "[]" {
		t.Errorf("the shape of a scalar prints as %q", got)
	}
}

// eager returns io.EOF together with the last bytes, as a ReaderAt may.
type eager []byte

func (e eager) ReadAt(b []byte, off int64) (int, error) {
	n, err := bytes.NewReader(e).ReadAt(b, off)
	if off+int64(n) == int64(len(e)) {
		err = io.EOF
	}
	return n, err
}

// TestRaw reads around the border of one conversion step, 64 KiB, for element
// sizes 1 to 8 and an odd offset in the file.
func TestRaw(t *testing.T) {
	const elements = 40000
	for _, d := range []tensor.DType{tensor.U8, tensor.BF16, tensor.F32, tensor.F64} {
		data := make([]byte, 3+elements*d.Size())
		want := make([]float32, elements)
		for i := range want {
			want[i] = float32(i % 251)
		}
		encode(data[3:], want, d)
		for _, r := range []io.ReaderAt{bytes.NewReader(data), eager(data)} {
			raw := tensor.Raw{R: r, Offset: 3, DType: d}
			step := 65536 / d.Size()
			for _, c := range [][2]int{{0, 0}, {0, 1}, {0, elements}, {1, step - 1}, {1, step}, {1, min(step+1, elements-1)}, {elements - 1, 1}, {elements, 0}} {
				if c[0]+c[1] > elements {
					continue
				}
				got := make([]float32, c[1])
				if err := raw.ReadFloat32(got, int64(c[0])); err != nil {
					t.Errorf("%v: read %d at %d: %v", d, c[1], c[0], err)
				}
				for i := range got {
					if got[i] != want[c[0]+i] {
						t.Fatalf("%v: element %d of %d at %d is %v, want %v", d, i, c[1], c[0], got[i], want[c[0]+i])
					}
				}
			}
			if err := raw.ReadFloat32(make([]float32, 2), elements-1); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: reading past the end gives %v", d, err)
			}
			if err := raw.ReadFloat32(make([]float32, 1), -100); err == nil {
				t.Errorf("%v: reading before the start gives no error", d)
			}
		}
	}
	if err := (tensor.Raw{R: bytes.NewReader(nil)}).ReadFloat32(nil, 0); err == nil || !strings.Contains(err.Error(), "invalid") {
		t.Errorf("a reader without a type gives %v", err)
	}
}

func encode(dst []byte, src []float32, d tensor.DType) {
	switch d {
	case tensor.BF16:
		tensor.EncodeBF16(dst, src)
	case tensor.F32:
		tensor.EncodeF32(dst, src)
	case tensor.F64:
		for i, v := range src {
			b := math.Float64bits(float64(v))
			for k := range 8 {
				dst[i*8+k] = byte(b >> (8 * k))
			}
		}
	default:
		for i, v := range src {
			dst[i] = byte(v)
		}
	}
}

// FuzzRaw wants any offset and length to give the bytes or an error.
func FuzzRaw(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, uint8(tensor.F32), int64(0), int64(1), uint16(1))
	f.Add([]byte{1, 2, 3}, uint8(tensor.F16), int64(1), int64(0), uint16(1))
	f.Add([]byte{}, uint8(tensor.Bool), int64(-1), int64(1<<62), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, dtype uint8, base, offset int64, n uint16) {
		d := tensor.DType(dtype)
		raw := tensor.Raw{R: bytes.NewReader(data), Offset: base, DType: d}
		got := make([]float32, n)
		if err := raw.ReadFloat32(got, offset); err != nil || n == 0 {
			return
		}
		start := base + offset*int64(d.Size())
		want := make([]float32, n)
		if err := tensor.Decode(want, data[start:], d); err != nil {
			t.Fatalf("read %d elements at %d of %d bytes, of which there are not so many: %v", n, start, len(data), err)
		}
		for i := range got {
			if !sameFloat(float64(got[i]), float64(want[i])) {
				t.Fatalf("element %d is %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&tensor.FormatError{Path: "a.gguf", Offset: 24, Field: "tensor_count", Err: errors.New("too many")}, "a.gguf: byte 24: tensor_count: too many"},
		{&tensor.FormatError{Offset: -1, Err: errors.New("too many")}, "too many"},
		{&tensor.FormatError{Offset: 0, Field: "magic", Err: errors.New("wrong")}, "byte 0: magic: wrong"},
		{&tensor.UnsupportedError{What: "a thing"}, "unsupported: a thing"},
		{&tensor.UnsupportedError{What: "a thing", Hint: "try another"}, "unsupported: a thing (try another)"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("error reads %q, want %q", got, c.want)
		}
	}
	if err := error(&tensor.FormatError{Err: fs.ErrNotExist}); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a FormatError hides its cause")
	}
}
