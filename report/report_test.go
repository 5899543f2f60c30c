package report

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

var update = flag.Bool("update", false, "write the goldens anew")

// pageOf writes a page and returns the files by name.
func pageOf(t *testing.T, p *Page, raw ...File) map[string]string {
	t.Helper()
	dir := t.TempDir()
	o, err := ParseOutput(filepath.Join(dir, "page.md"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := Write(o, p, raw)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range written {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.ToSlash(rel)] = string(b)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return out
}

// TestGolden compares every file of the fixture's page with the one in testdata.
func TestGolden(t *testing.T) {
	files := pageOf(t, fixture(), File{"bench.json", "the rounds", []byte("{}\n")})
	want := []string{"page.html", "page.md", "page/bench.json", "page/first-token.svg", "page/latency.svg", "page/size-quality.svg", "page/speed-quality.svg"}
	var names []string
	for name, text := range files {
		names = append(names, name)
		golden := filepath.Join("testdata", filepath.FromSlash(name))
		if *update {
			if err := writeWhole(golden, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(b), "\n"), strings.Split(text, "\n")); d != "" {
			t.Errorf("%s differs from the golden (-update writes it anew):\n%s", name, d)
		}
	}
	slices.Sort(names)
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("files: %s", d)
	}
}

// hostile is the fixture with names that would do harm unescaped.
func hostile() *Page {
	p := fixture()
	bad := "</title></style><script>alert(1)</script>|`x`<img src=x onerror=y>[a](javascript:z) \"'&\u202Eevil\n# head\x00\xff"
	p.Model, p.Program, p.Command, p.Reference, p.Text = bad, bad, bad, bad, bad
	for _, l := range []*[]Fact{&p.Machine, &p.Versions, &p.Settings} {
		for i := range *l {
			(*l)[i] = Fact{bad, bad}
		}
	}
	for i := range p.Rows {
		r := &p.Rows[i]
		r.Artifact, r.Recipe, r.Target, r.Precision = strings.Repeat("x", i)+bad, bad, bad, bad
		r.Problems = []string{bad}
	}
	p.Rows[1].Format = bad
	p.Warnings, p.Notes, p.Categories = []string{bad}, []string{bad}, []string{bad, bad}
	p.Missing = []Missing{{bad, []string{bad}, bad}}
	return p
}

// tags are the elements of a document in order, each checked to be closed by its
// own end; the parser alone would repair what is not.
func tags(t *testing.T, doc string) []string {
	t.Helper()
	void := []string{"meta", "wbr", "br", "img", "link"}
	var out, open []string
	z := html.NewTokenizer(strings.NewReader(doc))
	for {
		kind := z.Next()
		token := z.Token()
		switch kind {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			if len(open) > 0 {
				t.Fatalf("not closed: %v", open)
			}
			return out
		case html.StartTagToken:
			out = append(out, token.Data)
			for _, a := range token.Attr {
				key := strings.ToLower(a.Key)
				if strings.HasPrefix(key, "on") || slices.Contains([]string{"src", "href", "xlink:href", "action", "style", "srcset"}, key) {
					t.Errorf("<%s> has %s=%q", token.Data, a.Key, a.Val)
				}
			}
			if !slices.Contains(void, token.Data) {
				open = append(open, token.Data)
			}
		case html.SelfClosingTagToken:
			out = append(out, token.Data)
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> closes %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

var charts = regexp.MustCompile(`(?s)<svg.*?</svg>`)

// TestHTML wants a document that is well-formed, loads nothing, and whose tree
// the parser does not change.
func TestHTML(t *testing.T) {
	doc := pageOf(t, fixture())["page.html"]
	seen := tags(t, doc)
	root, err := html.Parse(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	var parsed []string
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			parsed = append(parsed, n.Data)
		}
		if n.Type == html.TextNode && n.Parent.Data == "tr" && strings.TrimSpace(n.Data) != "" {
			t.Errorf("text %q in a row", n.Data)
		}
	}
	if d := cmp.Diff(seen, parsed); d != "" {
		t.Errorf("elements written and parsed: %s", d)
	}
	if regexp.MustCompile(`(?i)https?:|url\(|@import`).MatchString(doc) {
		t.Error("the page names something outside itself")
	}
	for _, want := range []string{"prefers-color-scheme:dark", `name="viewport"`, "default-src &#39;none&#39;", `class="sortable"`} {
		if !strings.Contains(doc, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestHostile wants the same elements whatever names are, well-formed charts, and
// a Markdown table whose rows have as many cells as its head.
func TestHostile(t *testing.T) {
	good := fixture()
	for i := range good.Rows {
		good.Rows[i].Problems = []string{"x"}
		good.Rows[i].Artifact = strings.ReplaceAll(good.Rows[i].Artifact, "/", "")
	}
	files := pageOf(t, hostile())
	strip := func(s string) string { return charts.ReplaceAllString(strings.ReplaceAll(s, "<wbr>", ""), "") }
	got, want := tags(t, strip(files["page.html"])), tags(t, strip(pageOf(t, good)["page.html"]))
	// The bounds' table names targets, which are hostile too: it says that there
	// is no artifact, in as many rows.
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("elements: %s", d)
	}
	if n := strings.Count(files["page.html"], "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	files["page.md"] = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(files["page.md"], "") // where everything is text
	for name, text := range files {
		for _, bad := range []string{"\x00", "\u202E", "<img src", "<script>alert"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s contains %q", name, bad)
			}
		}
		if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, text)
		}
	}
	md := files["page.md"]
	unescaped := regexp.MustCompile(`\\.`)
	cells := 0
	for line := range strings.SplitSeq(md, "\n") {
		n := strings.Count(unescaped.ReplaceAllString(line, ""), "|")
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		if cells == 0 {
			cells = n
		}
		if n != cells {
			t.Errorf("%d bars in a table of %d: %s", n, cells, line)
		}
	}
	if regexp.MustCompile(`(?m)^#+ head|[^\\]\]\(javascript`).MatchString(md) {
		t.Error("Markdown of a name takes effect")
	}
}

func wellFormed(t *testing.T, name, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestOdd wants a page of whatever there is, and a reason for what there is not.
func TestOdd(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		name    string
		rows    []Row
		drawn   int
		missing string
	}{
		{"nothing", nil, 0, "no loss and no perplexity is known"},
		{"only the reference", []Row{{Artifact: "onnx/base/fp16", Format: "onnx", Reference: true, Bytes: 5}}, 0, "no loss"},
		{"one", []Row{{Artifact: "a", Bytes: 5, KL: Plain(0.1)}}, 1, "the speed of no artifact"},
		{"perplexity alone", []Row{{Artifact: "a", Bytes: 5, Perplexity: Plain(9)}, {Artifact: "b", Bytes: 5, Perplexity: Plain(9)}}, 1, "the speed of no artifact"},
		{"no divergence at all", []Row{{Artifact: "a", Bytes: 5, KL: Plain(0)}}, 0, "no loss"},
		{"not numbers", []Row{{Artifact: "a", Bytes: -5, KL: Plain(nan), Loss: Plain(inf), Speed: &Speed{Decode: Plain(nan), P50: Plain(inf), FirstToken: Plain(-1)}}}, 0, "no loss"},
		{"beyond a float", []Row{{Artifact: "a", Bytes: 1, KL: Plain(1e-300)}, {Artifact: "b", Bytes: 5, KL: Plain(1e300)}}, 0, "it could not be drawn"},
		{"a huge span", []Row{{Artifact: "a", Bytes: 1, KL: Plain(1e-30)}, {Artifact: "b", Bytes: 1 << 62, KL: Plain(1e30)}}, 1, "the speed"},
		{"an interval below zero", []Row{{Artifact: "a", Bytes: 5, KL: &Estimate{0.1, -0.1, 0.3}, Speed: &Speed{Decode: &Estimate{5, -1, 7}}}}, 2, "times between tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Page{Model: "m", Rows: c.rows}
			files := pageOf(t, p)
			if n := len(files) - 2; n != c.drawn {
				t.Errorf("%d charts, want %d", n, c.drawn)
			}
			for name, text := range files {
				if strings.HasSuffix(name, ".svg") {
					wellFormed(t, name, text)
				}
				if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
					t.Errorf("%s shows what is not a number", name)
				}
			}
			tags(t, files["page.html"])
			if !strings.Contains(files["page.md"], c.missing) || !strings.Contains(files["page.md"], "no such artifact here") {
				t.Errorf("want %q in\n%s", c.missing, files["page.md"])
			}
		})
	}
}

// TestChartsFail wants the tables where charts cannot be stored, or drawn.
func TestChartsFail(t *testing.T) {
	dir := t.TempDir()
	o, err := ParseOutput(filepath.Join(dir, "page.md"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Folder, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	written, err := Write(o, fixture(), []File{{"bench.json", "rounds", []byte("{}")}})
	if err == nil || !strings.Contains(err.Error(), "size-quality.svg") {
		t.Errorf("error %v", err)
	}
	if d := cmp.Diff([]string{o.HTML, o.Markdown}, written); d != "" {
		t.Errorf("written: %s", d)
	}
	md, err := os.ReadFile(o.Markdown)
	if err != nil || strings.Contains(string(md), ".svg") || strings.Contains(string(md), "bench.json") || !strings.Contains(string(md), "| onnx/cpu/int4 |") {
		t.Errorf("%v\n%s", err, md)
	}
	if _, why := guard(nil, func(*Page) (*chart, string) { panic("no place") }); why != "it could not be drawn: no place" {
		t.Errorf("a chart that panics: %q", why)
	}
}

// TestStaleChart wants charts gone that the page has no longer.
func TestStaleChart(t *testing.T) {
	o, err := ParseOutput(filepath.Join(t.TempDir(), "page.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := fixture()
	for range 2 {
		if _, err := Write(o, p, nil); err != nil {
			t.Fatal(err)
		}
		for i := range p.Rows {
			p.Rows[i].Speed = nil
		}
	}
	left, err := filepath.Glob(filepath.Join(o.Folder, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "size-quality.svg" {
		t.Errorf("%v, %v", left, err)
	}
}

func TestParseOutput(t *testing.T) {
	dir := t.TempDir()
	j := filepath.Join
	for _, c := range []struct {
		path string
		want Output
	}{
		{"a/b.md", Output{"a/b.md", "a/b.html", "a/b"}},
		{"b.HTML", Output{HTML: "b.HTML"}},
		{dir, Output{j(dir, DefaultName+".md"), j(dir, DefaultName+".html"), j(dir, DefaultName)}},
		{"new/", Output{j("new", DefaultName+".md"), j("new", DefaultName+".html"), j("new", DefaultName)}},
		{"new", Output{j("new", DefaultName+".md"), j("new", DefaultName+".html"), j("new", DefaultName)}},
	} {
		if got, err := ParseOutput(c.path); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.path, got, err)
		}
	}
	for _, path := range []string{"", "a.txt", "a.svg"} {
		if got, err := ParseOutput(path); err == nil {
			t.Errorf("%q is taken for %+v", path, got)
		}
	}
}

func TestJudge(t *testing.T) {
	b := Bound{Max: 0.05}
	for _, c := range []struct {
		loss *Estimate
		want string
	}{
		{nil, "no figure"},
		{Plain(math.NaN()), "no figure"},
		{Plain(0.01), "met (no interval known)"},
		{Plain(0.05), "not met"},
		{&Estimate{0.02, -0.01, 0.049}, "met"},
		{&Estimate{0.04, 0.03, 0.05}, "undecided: the interval holds the bound"},
		{&Estimate{0.06, 0.049, 0.07}, "undecided: the interval holds the bound"},
		{&Estimate{0.06, 0.05, 0.07}, "not met"},
	} {
		if got := b.judge(c.loss); got != c.want {
			t.Errorf("%+v: %q, want %q", c.loss, got, c.want)
		}
	}
	p := &Page{Rows: []Row{
		{Artifact: "a", Format: "onnx", Target: "tensorrt", Precision: "int8", Basis: Arithmetic, Loss: Plain(0.01)},
		{Artifact: "b", Format: "onnx", Target: "tensorrt", Precision: "int4"},
		{Artifact: "c", Format: "gguf", Target: "coreml", Precision: "int8", Loss: Plain(0.01)},
	}}
	var got []string
	for _, v := range p.verdicts() {
		got = append(got, v.Name+" "+string(v.Basis)+": "+v.Found)
	}
	want := []string{
		"TensorRT plain arithmetic only: met (no interval known)",
		"TensorRT not run on the device: no figure",
		"CoreML not run on the device: no such artifact here",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestFront compares with the definition, on random figures with many ties.
func TestFront(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kl := axis{of: func(r *Row) *Estimate { return r.KL }}
	decode := axis{of: decodeOf, higher: true}
	for range 300 {
		var rows []*Row
		for range 1 + r.IntN(12) {
			rows = append(rows, &Row{KL: Plain(float64(r.IntN(6))), Speed: &Speed{Decode: Plain(float64(r.IntN(6)))}})
		}
		got := front(rows, decode, kl)
		on := map[[2]float64]bool{}
		for _, x := range got {
			on[[2]float64{x.Speed.Decode.Value, x.KL.Value}] = true
		}
		for _, x := range rows {
			beaten := slices.ContainsFunc(rows, func(o *Row) bool {
				d, k := o.Speed.Decode.Value-x.Speed.Decode.Value, x.KL.Value-o.KL.Value
				return d >= 0 && k >= 0 && d+k > 0
			})
			if on[[2]float64{x.Speed.Decode.Value, x.KL.Value}] == beaten {
				t.Fatalf("decode %g, KL %g: beaten %v, on the front %v", x.Speed.Decode.Value, x.KL.Value, beaten, !beaten)
			}
		}
	}
}

// TestLabels puts many names into little room: none lies on another, on a marker
// or outside, and what fits is written.
func TestLabels(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		c := draw.New(newSVG(344, 300))
		l := placement{area: c.Rectangle}
		var points []vg.Point
		for range 40 {
			p := vg.Point{X: vg.Length(20 + 300*r.Float64()), Y: vg.Length(20 + 260*r.Float64())}
			points = append(points, p)
			l.block(p, markerRadius)
		}
		markers, placed := len(l.taken), 0
		for _, p := range points {
			if l.put(c, style(labelSize, inkText), "tensorrt/int4", p) {
				placed++
			}
		}
		names := l.taken[markers:]
		if placed != len(names) || placed < 10 {
			t.Fatalf("%d of 40 placed, %d noted", placed, len(names))
		}
		for i, n := range names {
			if n.Min.X < 0 || n.Min.Y < 0 || n.Max.X > 344 || n.Max.Y > 300 {
				t.Errorf("outside: %v", n)
			}
			for j, o := range l.taken {
				if j != markers+i && overlap(n, o) {
					t.Fatalf("%v lies on %v", n, o)
				}
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		log    bool
		want   []string
	}{
		{60, 270, false, []string{"100", "150", "200", "250"}},
		{0, 1, false, []string{"0", "0.2", "0.4", "0.6", "0.8", "1"}},
		{-0.3, 0.3, false, []string{"−0.2", "0", "0.2"}},
		{0.0015, 0.25, true, []string{"0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2"}},
		{0.00015, 1.5, true, []string{"0.001", "0.01", "0.1", "1"}},
		{3, 6, true, []string{"3", "4", "5", "6"}},
		{0, 1, true, nil},
	} {
		var ticker interface{ labels(lo, hi float64) []string } = linearTicks{5}
		if c.log {
			ticker = logTicks{}
		}
		if d := cmp.Diff(c.want, ticker.labels(c.lo, c.hi)); d != "" {
			t.Errorf("%g to %g, log %v: %s", c.lo, c.hi, c.log, d)
		}
	}
}

func (t linearTicks) labels(lo, hi float64) (out []string) {
	for _, k := range t.Ticks(lo, hi) {
		out = append(out, k.Label)
	}
	return out
}

func (t logTicks) labels(lo, hi float64) (out []string) {
	for _, k := range t.Ticks(lo, hi) {
		if k.Label != "" {
			out = append(out, k.Label)
		}
	}
	return out
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{show(Plain(41.237), 1, " ms").text(), "41.2 ms"},
		{show(&Estimate{0.0123, 0.0119, 0.0131}, 1000, "").text(), "12.3 (11.9–13.1)"},
		{show(&Estimate{1234.6, 1200, 1300}, 1, "").text(), "1235 (1200–1300)"},
		{percent(&Estimate{-0.0034, -0.0144, 0.0076}, 2, true).text(), "−0.34 % (−1.44 to +0.76)"},
		{percent(Plain(0), 1, true).text(), "0.0 %"},
		{percent(nil, 1, true).text(), none},
		{sizeText(0), none},
		{sizeText(1536), "1.5 KiB"},
		{sizeText(3 << 30), "3.00 GiB"},
		{klText(&Row{KL: &Estimate{0.0504, 0.0444, 0.0564}}).text(), "0.0504 (± 0.0060)"},
		{klText(&Row{KL: Plain(0.000012)}).text(), "0.000012"},
		{short("a\nb\u202Ec", 9), "a b\uFFFDc"},
		{short("abcdef", 4), "abc…"},
		{fixed(-0.001, 2), "0.00"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
