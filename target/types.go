package target

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// elemNames are the short spellings of element types in the data files.
var elemNames = map[string]onnx.ElemType{
	"f32": onnx.F32, "f16": onnx.F16, "bf16": onnx.BF16, "f64": onnx.F64,
	"i8": onnx.I8, "i16": onnx.I16, "i32": onnx.I32, "i64": onnx.I64, "i4": onnx.I4, "i2": onnx.I2,
	"u8": onnx.U8, "u16": onnx.U16, "u32": onnx.U32, "u64": onnx.U64, "u4": onnx.U4, "u2": onnx.U2,
	"bool": onnx.Bool, "text": onnx.Text, "c64": onnx.C64, "c128": onnx.C128,
	"f8e4m3fn": onnx.F8E4M3FN, "f8e4m3fnuz": onnx.F8E4M3FNUZ, "f8e5m2": onnx.F8E5M2, "f8e5m2fnuz": onnx.F8E5M2FNUZ,
	"f8e8m0": onnx.F8E8M0, "f4e2m1": onnx.F4E2M1,
}

// elemSet is a set of element types, written "f32 f16 i64" in the data files.
type elemSet onnx.TypeSet

// parseElems reads names separated by sep.
func parseElems(text, sep string) (elemSet, error) {
	var s elemSet
	for _, name := range strings.Split(text, sep) {
		t, ok := elemNames[name]
		if !ok {
			return 0, fmt.Errorf("unknown element type %q", name)
		}
		s |= 1 << t
	}
	return s, nil
}

// UnmarshalJSON reads the names.
func (s *elemSet) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("read element types: %w", err)
	}
	var err error
	*s, err = parseElems(text, " ")
	return err
}

func (s elemSet) has(t onnx.ElemType) bool { return onnx.TypeSet(s).Has(t) }

// String lists the members by their names in onnx.proto.
func (s elemSet) String() string {
	var names []string
	for _, t := range elemNames {
		if s.has(t) {
			names = append(names, t.String())
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// compareVersions orders dotted versions by their numbers; a missing part is 0.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		// Numbers without leading zeros order by length, then by digits.
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// inRange reports whether version v lies in [from, to); "" is open.
func inRange(v, from, to string) bool {
	return (from == "" || compareVersions(v, from) >= 0) && (to == "" || compareVersions(v, to) < 0)
}
