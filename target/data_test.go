package target

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// TestData reads every data file for slips of the pen: operators and inputs that
// no schema has, entries without a source, checks that do not exist.
func TestData(t *testing.T) {
	// Operators that the providers list and format/onnx has no schema for, since
	// no graph here has them.
	foreign := map[string]bool{}
	for _, name := range Known() {
		tg, err := load(name)
		if err != nil {
			t.Fatal(err)
		}
		if tg.Name != name || tg.EP == "" || tg.Title == "" || tg.Runtime == "" || tg.DefaultRelease == "" {
			t.Errorf("%s: a name is missing: %+v", name, tg)
		}
		if tg.Dialect != "fused" && tg.Dialect != "standard" {
			t.Errorf("%s: dialect %q", name, tg.Dialect)
		}
		for i, r := range tg.Releases {
			if r.Source == "" {
				t.Errorf("%s: release %s has no source", name, r.Version)
			}
			if i > 0 && compareVersions(tg.Releases[i-1].Version, r.Version) >= 0 {
				t.Errorf("%s: release %s is out of order", name, r.Version)
			}
		}
		if err := tg.CheckOptions(tg.Provider); err != nil {
			t.Errorf("%s: its own provider options: %v", name, err)
		}
		for _, f := range tg.Fallback {
			if !slices.Contains(Known(), f) {
				t.Errorf("%s: falls back to %q, which is not a target", name, f)
			}
		}
		if tg.Quantize != nil && tg.Quantize.Source == "" {
			t.Errorf("%s: the quantized forms have no source", name)
		}
		if (tg.Kernels == "") == (len(tg.Groups) == 0) {
			t.Errorf("%s: a kernel registry or a list, one of them", name)
		}
		for op, inputs := range tg.HostInputs {
			checkNames(t, name, schemasOf(op, ""), schemasOf(op, onnx.DomainMicrosoft), inputs, op)
		}
		for _, g := range slices.Concat(tg.Groups, tg.Limits) {
			if g.Source == "" {
				t.Errorf("%s: a group without a source", name)
			}
			for _, o := range g.Operators {
				if len(strings.Fields(o.Ops)) == 0 || o.Since < 1 {
					t.Errorf("%s: operator %q since %d", name, o.Ops, o.Since)
				}
				for _, form := range o.Forms {
					if forms[form] == nil {
						t.Errorf("%s: %s: no check is called %q", name, o.Ops, form)
					}
				}
				for _, op := range strings.Fields(o.Ops) {
					found := schemasOf(op, o.Domain)
					if len(found) == 0 {
						foreign[op] = true
						continue
					}
					names := slices.Concat(o.Const, o.Static, o.Absent, slices.Collect(maps.Keys(o.Ranks)), slices.Collect(maps.Keys(o.Types)))
					// Entries of several operators name what any of them has.
					if !strings.Contains(o.Ops, " ") {
						checkNames(t, name, found, nil, names, op)
					}
					for attr := range o.Attrs {
						if !slices.ContainsFunc(found[0].Attrs, func(a onnx.AttrRule) bool { return a.Name == attr }) {
							t.Errorf("%s: %s has no attribute %q", name, op, attr)
						}
					}
				}
			}
		}
	}
	want := "Ceil Elu Floor GatherND HardSigmoid LeakyRelu Mod PRelu Round ScatterElements Softplus"
	if got := strings.Join(slices.Sorted(maps.Keys(foreign)), " "); got != want {
		t.Errorf("operators without a schema: %s\nwant %s", got, want)
	}
}

// schemasOf lists the versions of an operator.
func schemasOf(op, domain string) []*onnx.Operator {
	var found []*onnx.Operator
	for v := int64(1); v <= onnx.MaxOpset; v++ {
		if s := onnx.FindOperator(domain, op, v); s != nil && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found
}

// checkNames wants each name to be an input, an output, a type variable or "*".
func checkNames(t *testing.T, target string, a, b []*onnx.Operator, names []string, op string) {
	t.Helper()
	known := map[string]bool{"*": true}
	for _, s := range slices.Concat(a, b) {
		for _, f := range slices.Concat(s.Inputs, s.Outputs) {
			known[f.Name], known[f.Type] = true, true
		}
	}
	for _, n := range names {
		if !known[n] {
			t.Errorf("%s: %s has no input or type %q", target, op, n)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"10.3", "10.14", -1}, {"10.14", "10.3", 1}, {"10.3", "10.3.0", 0}, {"10", "10.0", 0}, {"11", "10.16", 1},
		{"10.3.1", "10.3", 1}, {"", "0", 0}, {"010.3", "10.3", 0},
	} {
		got := compareVersions(c.a, c.b)
		if (got < 0) != (c.want < 0) || (got > 0) != (c.want > 0) {
			t.Errorf("compareVersions(%q, %q) = %d, want sign of %d", c.a, c.b, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"gpu", "gup", 1}, {"trt", "trt", 0},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestElements(t *testing.T) {
	for _, c := range []struct {
		dims []int64
		want int64
	}{
		{nil, 1}, {[]int64{100}, 100}, {[]int64{101}, 101}, {[]int64{10, 10}, 100}, {[]int64{1 << 62, 1 << 62}, 101}, {[]int64{1 << 62, 0}, 0},
	} {
		if got := elements(c.dims); got != c.want {
			t.Errorf("elements(%v) = %d, want %d", c.dims, got, c.want)
		}
	}
}
