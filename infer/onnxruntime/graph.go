package onnxruntime

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// lastPositionPrefix begins the names of the nodes by which this module's
// converter cuts the hidden states down to the last position (package
// convert/toonnx, LastPosition). Removing them gives logits at every position.
const lastPositionPrefix = "/model/last_position"

// graph is what the loader finds in an .onnx file before ONNX Runtime reads
// it.
type graph struct {
	path      string
	edited    []byte // the graph with logits at more positions; nil if it is loaded as it is
	weights   *weights
	inputs    []onnx.Value
	roles     map[string]role // of the inputs
	quantizes bool            // multiplies activations of 8 bits
	halfSteps bool            // rounds float16 activations to 8 bits
	inPlace   bool            // an operator writes to a buffer longer than its content
	cacheRows int64           // length of past where it is fixed, else 0
	bytes     sizes
}

// sizes sums up a graph's initializers. Two over one range of a file (tied
// weights) count once.
type sizes struct {
	data     int64 // bytes of external initializers
	inline   int64 // bytes of the others
	half     int64 // of all those, bytes of float16 ones
	elements int64
}

func (s sizes) total() int64 { return s.data + s.inline }

// graphs are the graphs of a folder: prefill is nil where decode serves both.
type graphs struct {
	decode, prefill *graph
	onDisk          int64
}

func (g *graphs) close() {
	for _, one := range []*graph{g.decode, g.prefill} {
		if one != nil && one.weights != nil {
			one.weights.close()
		}
	}
}

// loaded is the memory the weights take with a provider. Each session has its
// own: the CPU too makes packed copies of what it maps.
func (g *graphs) loaded(p *provider) int64 {
	n := p.weights(g.decode)
	if g.prefill != nil {
		n += p.weights(g.prefill)
	}
	return n
}

// release gives pages of the mapped weights back.
func (g *graphs) release() {
	g.decode.weights.release()
	if g.prefill != nil {
		g.prefill.weights.release()
	}
}

// role is what an input is for.
type role int

const (
	roleOther role = iota
	roleTokens
	roleMask
	rolePast
)

// extent is the size of dimension d in a run of some tokens behind past ones;
// ok is false for a dimension that neither decides.
func (r role) extent(d, tokens, past int) (n int64, ok bool) {
	switch {
	case d == 0 && r != roleOther:
		return 1, true
	case r == roleTokens && d == 1:
		return int64(tokens), true
	case r == roleMask && d == 1:
		return int64(past + tokens), true
	case r == rolePast && d == 2:
		return int64(past), true
	}
	return 0, false
}

// openInputs names the inputs whose shape is not fixed.
func (g *graph) openInputs() []string {
	var open []string
	for _, in := range g.inputs {
		if _, fixed := in.Shape.Ints(); !fixed {
			open = append(open, in.Name)
		}
	}
	return open
}

// fixedContext is the number of tokens a cache of fixed length holds, else 0.
func (g *graph) fixedContext() int { return int(g.cacheRows) }

// readGraphs reads the folder's graphs and maps their weights.
func readGraphs(lib *ort.Library, folder *modeldir.Folder, o infer.OpenOptions) (*graphs, error) {
	gs := &graphs{}
	err := gs.read(lib, folder, o)
	if err != nil {
		gs.close()
		return nil, err
	}
	return gs, nil
}

func (g *graphs) read(lib *ort.Library, folder *modeldir.Folder, o infer.OpenOptions) (err error) {
	rows := max(1, o.Rows)
	if o.AllLogits {
		rows = 0
	}
	if g.onDisk, err = folder.WeightBytes(); err != nil {
		return err
	}
	if g.decode, err = readGraph(lib, folder, folder.Model, rows); err != nil {
		return err
	}
	m := folder.Metadata
	if m == nil || m.Target.Prefill == "" {
		return nil
	}
	name := m.Target.Prefill
	if name != filepath.Base(name) || name == ".." || strings.ContainsAny(name, `/\:`) {
		return &tensor.FormatError{Offset: -1, Field: "target_specs.prefill_model", Err: fmt.Errorf("%q must be a plain file name", name)}
	}
	// A graph for prompts need not check drafts.
	g.prefill, err = readGraph(lib, folder, filepath.Join(folder.Dir, name), min(rows, 1))
	return err
}

// readGraph maps the weights, sums them up, and gives the graph logits at so
// many of the last positions, or with 0 at all, where it has those of one.
func readGraph(lib *ort.Library, folder *modeldir.Folder, path string, rows int) (*graph, error) {
	file, err := onnx.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	g := file.Model.Graph
	out := &graph{path: path, inputs: g.Inputs}
	last := false
	index := g.Index()
	for _, n := range g.Nodes {
		switch n.Op {
		case "GroupQueryAttention":
			out.inPlace = true
			// A window hides rows of a cache that has them all; a cache of the
			// window's length could not be cut back.
			if w := n.Attr("sliding_window_cache"); w != nil && w.I > 0 {
				return nil, &tensor.UnsupportedError{What: fmt.Sprintf("the sliding cache of node %s", n.Label())}
			}
		case "QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat":
			out.quantizes = true
			if step := index.Initializer(n.Input(1)); n.Op == "QuantizeLinear" && step != nil && step.Elem == onnx.F16 {
				out.halfSteps = true
			}
		}
		last = last || strings.HasPrefix(n.Name, lastPositionPrefix)
	}
	// genai says so where a quantized cache cannot be shared.
	if cfg := folder.GenAI; cfg != nil && !cfg.Search.ShareBuffer && folder.Metadata == nil {
		out.inPlace = false
	}
	out.measure(g)
	out.assign(folder)
	if last {
		if err := out.widen(file.Model, rows); err != nil {
			return nil, fmt.Errorf("give the graph logits at more positions than the last: %w", err)
		}
	}
	out.weights, err = mapWeights(lib, file)
	return out, err
}

// measure sums up the initializers.
func (g *graph) measure(from *onnx.Graph) {
	type place struct {
		file string
		at   int64
	}
	seen := map[place]bool{}
	for i := range from.Initializers {
		t := from.Initializers[i]
		n, ok := t.Bytes()
		if !ok {
			continue
		}
		if t.External != nil {
			at := place{t.External.Location, t.External.Offset}
			if seen[at] && n > 0 {
				continue
			}
			seen[at] = true
			g.bytes.data += n
		} else {
			g.bytes.inline += n
		}
		if bits := int64(t.Elem.Bits()); bits > 0 {
			g.bytes.elements += n * 8 / bits
		}
		if t.Elem == onnx.F16 {
			g.bytes.half += n
		}
	}
}

// assign finds the roles of the inputs by the names of genai_config.json.
func (g *graph) assign(folder *modeldir.Folder) {
	names, _ := modeldir.DefaultNames()
	if folder.GenAI != nil {
		names = folder.GenAI.Model.Decoder.Inputs
	}
	g.roles = map[string]role{names.InputIDs: roleTokens, names.PositionIDs: roleTokens, names.AttentionMask: roleMask}
	key, value := strings.ReplaceAll(names.PastKey, "%d", "*"), strings.ReplaceAll(names.PastValue, "%d", "*")
	for _, in := range g.inputs {
		if !likePattern(in.Name, key) && !likePattern(in.Name, value) {
			continue
		}
		g.roles[in.Name] = rolePast
		if len(in.Shape) == 4 && in.Shape[2].IsFixed() {
			g.cacheRows = in.Shape[2].Size
		}
	}
}

// likePattern matches a name with one * in the pattern against digits.
func likePattern(name, pattern string) bool {
	before, after, _ := strings.Cut(pattern, "*")
	middle, ok := strings.CutPrefix(name, before)
	if !ok {
		return false
	}
	middle, ok = strings.CutSuffix(middle, after)
	return ok && middle != "" && strings.Trim(middle, "0123456789") == ""
}

// maxCopied is the size of weights inside a graph's own file from which on a
// copy of it is not worth drafts.
const maxCopied = 64 << 20

// widen changes a graph that cuts down to the last position, so that the last
// rows of them, or with 0 all, have logits. A graph of fixed length keeps one
// or has all.
func (g *graph) widen(m *onnx.Model, rows int) (err error) {
	fixed := slices.ContainsFunc(g.inputs, func(in onnx.Value) bool {
		return g.roles[in.Name] == roleTokens && len(in.Shape) == 2 && in.Shape[1].IsFixed()
	})
	switch {
	case rows == 0:
		removeLastPosition(m.Graph)
	case rows > 1 && !fixed && g.bytes.inline <= maxCopied:
		keepLastPositions(m.Graph, rows)
	default:
		return nil
	}
	g.edited, err = m.Encode()
	return err
}

// keepLastPositions makes the nodes that cut down to the last position keep as
// many as rows: all, where a run has fewer. The nodes are beyond the last
// layer's attention, so that a long prompt costs little more.
func keepLastPositions(g *onnx.Graph, rows int) {
	const at = "last_position.rows"
	start := onnx.Const(g, at+".start", nil, int64(-rows)) // Slice clamps it
	end := onnx.Const(g, at+".end", nil, int64(math.MaxInt64))
	axis := onnx.Const(g, at+".axis", nil, int64(1))
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, lastPositionPrefix) {
			n.Op, n.Attrs, n.Inputs = "Slice", nil, []string{n.Input(0), start, end, axis}
		}
	}
	g.Values = nil // as in removeLastPosition
	setRows(g, onnx.Named("logits_rows"))
}

// removeLastPosition takes the nodes that cut down to the last position out.
func removeLastPosition(g *onnx.Graph) {
	g.RemoveNodes(func(n *onnx.Node) bool {
		if !strings.HasPrefix(n.Name, lastPositionPrefix) {
			return false
		}
		g.ReplaceUses(n.Output(0), n.Input(0))
		return true
	})
	g.Values = nil // shapes noted behind the nodes are wrong now; they are optional
	rows := onnx.Named("sequence_length")
	for _, in := range g.Inputs {
		if len(in.Shape) == 2 && in.Shape[1].IsFixed() && (in.Name == "input_ids") {
			rows = in.Shape[1]
		}
	}
	setRows(g, rows)
}

// setRows declares how many rows of logits there are.
func setRows(g *onnx.Graph, rows onnx.Dim) {
	for i := range g.Outputs {
		if s := g.Outputs[i].Shape; len(s) == 3 {
			s[1] = rows
		}
	}
}
