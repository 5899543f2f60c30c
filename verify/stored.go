package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// Find lists the artifact folders below path: path itself where it is one (or
// a file of one), else onnx/<target>/<recipe>, sorted. A folder counts where a
// graph or metadata is in it, so that one whose graph is gone is found too.
func Find(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("find artifacts: %w", err)
	}
	if !info.IsDir() {
		path = filepath.Dir(path)
	}
	var out []string
	for _, dir := range []string{path, filepath.Join(path, "onnx")} {
		out = append(out, artifactsIn(dir, 2)...)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) == 0 {
		return nil, fmt.Errorf("find artifacts: there is no %s at or below %s; llama-pajamas-quant convert writes some", modeldir.ModelFile, path)
	}
	return out, nil
}

// artifactsIn looks in dir and so many levels of folders below it.
func artifactsIn(dir string, levels int) []string {
	for _, name := range []string{modeldir.ModelFile, modeldir.MetadataFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return []string{dir}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || levels == 0 {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, artifactsIn(filepath.Join(dir, e.Name()), levels-1)...)
		}
	}
	return out
}

// Stored is what the files of an artifact show without running it.
type Stored struct {
	Metadata *modeldir.Metadata
	// WeightBytes is the size of the data files that the graph uses.
	WeightBytes   int64
	BitsPerWeight float64 // 0 where the number of parameters is not known
	// Placements say where the nodes of each graph would land, for targets that
	// package target knows.
	Placements []Placement
	// Matrices are the weight matrices by name without layer numbers.
	Matrices []Matrix
	// Problems say in what the files are not what they should be.
	Problems []string
}

// Placement is where the nodes of one graph would land, as package target
// predicts from lists.
type Placement struct {
	Graph  string // file name
	Target string // "TensorRT 10.3"
	// Operators counts nodes by operator and fate, in order of first use.
	Operators []OperatorPlace
	// Left explains nodes that the target would not take.
	Left     []string
	Warnings []string
}

// OperatorPlace is the fate of the nodes of one operator.
type OperatorPlace struct {
	Operator string
	Fate     target.Fate
	Nodes    int
}

// Matrix sums up the matrices of one name: "model.layers.*.mlp.down_proj", of
// one form.
type Matrix struct {
	Name   string
	Layers []int // empty for a matrix of no layer
	// Elements counts the weights, Bytes all that stores them: integers,
	// scales, zero points.
	Elements, Bytes int64
}

// Bits is the bits per weight.
func (m Matrix) Bits() float64 { return 8 * float64(m.Bytes) / float64(m.Elements) }

// ReadStored checks an artifact's files: present, as long and with the hash
// that metadata.json says; graphs well formed, ranges of external data inside
// the files and apart from each other, every float stored a finite number. It
// runs nothing. Errors are problems of the machine; what is wrong with the
// artifact stands in Problems.
func ReadStored(ctx context.Context, dir string) (*Stored, error) {
	s := &Stored{}
	problem := func(format string, a ...any) { s.Problems = append(s.Problems, fmt.Sprintf(format, a...)) }
	b, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problem("%s is missing: files cannot be checked against it", modeldir.MetadataFile)
	case err != nil:
		return nil, fmt.Errorf("check %s: %w", dir, err)
	default:
		if s.Metadata, err = modeldir.ParseMetadata(b); err != nil {
			problem("%s: %v", modeldir.MetadataFile, err)
		}
	}
	if s.Metadata != nil {
		if err := checkFiles(ctx, dir, s.Metadata.Files, problem); err != nil {
			return nil, err
		}
		switch s.Metadata.Target.Format {
		case "mlx":
			return s, s.checkMLX(ctx, dir, problem)
		case "gguf": // the files are what was written: llama.cpp's business from here on
			s.WeightBytes, s.BitsPerWeight = s.Metadata.Size.WeightBytes, s.Metadata.Size.BitsPerWeight
			return s, nil
		}
	}
	graphs, err := filepath.Glob(filepath.Join(strings.NewReplacer("[", "\\[", "*", "\\*", "?", "\\?").Replace(dir), "*.onnx"))
	if err != nil || len(graphs) == 0 {
		problem("there is no %s", modeldir.ModelFile)
	}
	for _, path := range graphs {
		if err := s.checkGraph(ctx, path, problem); err != nil {
			return nil, err
		}
	}
	if m := s.Metadata; m != nil && s.WeightBytes > 0 {
		s.checkSize(m, problem)
	}
	return s, nil
}

// checkFiles compares files with their records.
func checkFiles(ctx context.Context, dir string, records []modeldir.FileRecord, problem func(string, ...any)) error {
	if len(records) == 0 {
		problem("%s lists no files", modeldir.MetadataFile)
	}
	for _, r := range records {
		if !filepath.IsLocal(filepath.FromSlash(r.Name)) {
			problem("%s lists %q, outside the folder", modeldir.MetadataFile, r.Name)
			continue
		}
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(r.Name)))
		if errors.Is(err, fs.ErrNotExist) {
			problem("%s is missing", r.Name)
			continue
		}
		if err != nil {
			return fmt.Errorf("check %s: %w", dir, err)
		}
		h := sha256.New()
		n, err := copyContext(ctx, h, f)
		f.Close()
		switch {
		case err != nil:
			return fmt.Errorf("check %s: %w", f.Name(), err)
		case n != r.Bytes:
			problem("%s has %d bytes, %d were written: it is not complete, or another", r.Name, n, r.Bytes)
		case hex.EncodeToString(h.Sum(nil)) != r.SHA256:
			problem("%s is not what was written: its sha256 differs", r.Name)
		}
	}
	return nil
}

// copyContext is io.Copy that ends with ctx.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if _, werr := w.Write(buf[:k]); werr != nil {
			return n, werr
		}
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// checkGraph checks one graph of the artifact and what it stores.
func (s *Stored) checkGraph(ctx context.Context, path string, problem func(string, ...any)) error {
	name := filepath.Base(path)
	f, err := onnx.Open(path)
	if err != nil {
		problem("%s", strings.ReplaceAll(err.Error(), filepath.Dir(path)+string(filepath.Separator), ""))
		return nil
	}
	defer f.Close()
	if err := onnx.Check(f.Model, onnx.CheckOptions{Complete: true}); err != nil {
		problem("%s: %v", name, err)
	}
	if s.Metadata != nil {
		s.place(f.Model, name, problem)
	}
	checkOverlap(f.Model.Graph, name, problem)
	if err := checkFinite(ctx, f, name, problem); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if name == modeldir.ModelFile {
		s.WeightBytes = f.DataBytes()
		s.Matrices = matrices(f.Model.Graph)
	}
	return nil
}

// place predicts where a graph would land and wants its target to take all of
// it.
func (s *Stored) place(m *onnx.Model, name string, problem func(string, ...any)) {
	t, err := target.Find(s.Metadata.Target.Target)
	if err != nil {
		return // base is for any provider
	}
	placed := t.Place(m)
	p := Placement{Graph: name, Target: placed.Target, Warnings: placed.Warnings}
	for _, n := range placed.Nodes {
		at := slices.IndexFunc(p.Operators, func(o OperatorPlace) bool { return o.Operator == n.Node.Op && o.Fate == n.Fate })
		if at < 0 {
			at = len(p.Operators)
			p.Operators = append(p.Operators, OperatorPlace{Operator: n.Node.Op, Fate: n.Fate})
		}
		p.Operators[at].Nodes++
	}
	for _, n := range placed.Left() {
		p.Left = append(p.Left, fmt.Sprintf("%s: %s", n.Node.Label(), n.Text))
	}
	if err := placed.Err(); err != nil {
		problem("%s: %v", name, err)
	}
	s.Placements = append(s.Placements, p)
}

// checkOverlap wants ranges of the data file to be equal (tied weights, two
// views of one matrix), one within the other, or apart.
func checkOverlap(g *onnx.Graph, name string, problem func(string, ...any)) {
	var ts []*onnx.Initializer
	for _, t := range g.Initializers {
		if n, ok := t.Bytes(); t.External != nil && ok && n > 0 {
			ts = append(ts, t)
		}
	}
	end := func(t *onnx.Initializer) int64 { n, _ := t.Bytes(); return t.External.Offset + n }
	slices.SortFunc(ts, func(a, b *onnx.Initializer) int {
		return cmp.Or(cmp.Compare(a.External.Location, b.External.Location),
			cmp.Compare(a.External.Offset, b.External.Offset), cmp.Compare(end(b), end(a)))
	})
	var widest *onnx.Initializer // reaches farthest of those before
	for _, t := range ts {
		switch {
		case widest == nil || widest.External.Location != t.External.Location || t.External.Offset >= end(widest):
			widest = t
		case end(t) > end(widest):
			problem("%s: the data of %q and %q overlap", name, widest.Name, t.Name)
			widest = t
		}
	}
}

// checkFinite reads every float that the graph stores.
func checkFinite(ctx context.Context, f *onnx.File, name string, problem func(string, ...any)) error {
	const chunk = 1 << 20
	var buf []byte
	for _, t := range f.Model.Graph.Initializers {
		finite := finiteOf[t.Elem]
		if finite == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := f.Section(t)
		if err != nil {
			return err
		}
		if buf == nil {
			buf = make([]byte, chunk)
		}
		for {
			n, err := io.ReadFull(r, buf)
			if !finite(buf[:n]) {
				problem("%s: %q holds an infinity or NaN", name, t.Name)
				break
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				break
			}
			if err != nil {
				return fmt.Errorf("read %q: %w", t.Name, err)
			}
		}
	}
	return nil
}

// finiteOf tells by type whether all elements are finite: no exponent is all
// ones.
var finiteOf = map[onnx.ElemType]func([]byte) bool{
	onnx.F16:  func(b []byte) bool { return finite16(b, 0x7c00) },
	onnx.BF16: func(b []byte) bool { return finite16(b, 0x7f80) },
	onnx.F32: func(b []byte) bool {
		for ; len(b) >= 4; b = b[4:] {
			if binary.LittleEndian.Uint32(b)&0x7f800000 == 0x7f800000 {
				return false
			}
		}
		return true
	},
}

func finite16(b []byte, exponent uint16) bool {
	for ; len(b) >= 2; b = b[2:] {
		if binary.LittleEndian.Uint16(b)&exponent == exponent {
			return false
		}
	}
	return true
}

// checkSize compares sizes with what metadata says and with the floor.
func (s *Stored) checkSize(m *modeldir.Metadata, problem func(string, ...any)) {
	if m.Architecture.Parameters <= 0 {
		problem("%s gives no number of parameters", modeldir.MetadataFile)
		return
	}
	s.BitsPerWeight = 8 * float64(s.WeightBytes) / float64(m.Architecture.Parameters)
	if said := m.Size.BitsPerWeight; math.Abs(said-s.BitsPerWeight) > 0.001 {
		problem("%s says %.3f bits per weight, the files have %.3f", modeldir.MetadataFile, said, s.BitsPerWeight)
	}
	if floor := m.Size.BitsPerWeightFloor; s.BitsPerWeight < floor-0.001 {
		problem("%.3f bits per weight, fewer than the %.3f that the recipe needs: weights are missing", s.BitsPerWeight, floor)
	}
}

// layerNumber finds a layer's number in the name of a tensor.
var layerNumber = regexp.MustCompile(`\.layers\.(\d+)\.`)

// matrices finds the weight matrices of a graph and groups them by name and
// form. A matrix is a constant of two dims or more, named as weights are (the
// rotary tables are not); its scales and zero points, found at the node that
// reads it, belong to it.
func matrices(g *onnx.Graph) []Matrix {
	index := g.Index()
	seen := map[onnx.External]bool{} // tied weights count once
	groups := map[string]*Matrix{}
	var order []string
	rowScales := map[string]int64{} // bytes, by the name of the matrix
	for _, t := range g.Initializers {
		if name, _, ok := strings.Cut(t.Name, ".row_scales"); ok {
			rowScales[name], _ = t.Bytes()
		}
	}
	for _, n := range g.Nodes {
		elements, bytes, main := weightOf(index, n)
		if main != nil && n.Op == "Gather" { // rows and scales are looked up apart
			bytes += rowScales[strings.TrimSuffix(main.Name, ".rows")]
		}
		if elements == 0 || strings.Contains(main.Name, ".row_scales") || !strings.Contains(main.Name, ".weight") || main.External != nil && seen[*main.External] {
			continue
		}
		if main.External != nil {
			seen[*main.External] = true
		}
		name, layer := main.Name, -1
		if at := layerNumber.FindStringSubmatchIndex(name); at != nil {
			fmt.Sscan(name[at[2]:at[3]], &layer)
			name = name[:at[2]] + "*" + name[at[3]:]
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".rows"), ".weight")
		key := fmt.Sprintf("%s %d", name, 8*bytes/elements)
		m := groups[key]
		if m == nil {
			m = &Matrix{Name: name}
			groups[key] = m
			order = append(order, key)
		}
		if layer >= 0 {
			m.Layers = append(m.Layers, layer)
		}
		m.Elements += elements
		m.Bytes += bytes
	}
	out := make([]Matrix, len(order))
	for i, key := range order {
		out[i] = *groups[key]
	}
	return out
}

// weightOf is the weight matrix that a node reads: its elements, the bytes
// that store it, and its main tensor.
func weightOf(index *onnx.Index, n *onnx.Node) (elements, bytes int64, main *onnx.Initializer) {
	stored := func(i int) *onnx.Initializer {
		name := n.Input(i)
		for range 4 { // through Cast, Transpose, Reshape of a constant
			if t := index.Initializer(name); t != nil {
				return t
			}
			p := index.Producer(name)
			if p == nil || p.Op != "Cast" && p.Op != "Transpose" && p.Op != "Reshape" {
				return nil
			}
			name = p.Input(0)
		}
		return nil
	}
	size := func(i int) int64 {
		if t := stored(i); t != nil {
			n, _ := t.Bytes()
			return n
		}
		return 0
	}
	product := func(t *onnx.Initializer) int64 {
		if len(t.Dims) < 2 {
			return 0
		}
		k := int64(1)
		for _, d := range t.Dims {
			k *= d
		}
		return k
	}
	switch n.Op {
	case "MatMulNBits":
		k, rows := n.Attr("K"), n.Attr("N")
		if main = stored(1); main == nil || k == nil || rows == nil {
			return 0, 0, nil
		}
		return k.I * rows.I, size(1) + size(2) + size(3), main
	case "GatherBlockQuantized":
		if main = stored(0); main == nil {
			return 0, 0, nil
		}
		elements := product(main)
		if bits := n.Attr("bits"); bits != nil && main.Elem == onnx.U8 {
			elements = elements * 8 / max(1, bits.I)
		}
		return elements, size(0) + size(2) + size(3), main
	case "DequantizeLinear":
		if main = stored(0); main == nil {
			return 0, 0, nil
		}
		return product(main), size(0) + size(1) + size(2), main
	case "MatMul", "FusedMatMul", "Gemm":
		main = stored(1)
	case "Gather":
		main = stored(0)
	}
	if main == nil || finiteOf[main.Elem] == nil && main.Elem != onnx.I8 && main.Elem != onnx.U8 {
		return 0, 0, nil
	}
	elements = product(main)
	bytes, _ = main.Bytes()
	return elements, bytes, main
}
