package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/llama-pajamas/llama-pajamas/format/onnx/internal/pb"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Limits on what a file may ask for before it is unpacked: an empty message
// takes two bytes in the file and some hundred in memory.
const (
	// maxNesting bounds how deeply messages may nest. A subgraph costs three
	// levels; real models nest loops and branches a few deep.
	maxNesting = 100
	// maxMessages bounds the messages (nodes, attributes, tensors, dims) of a
	// file. A decoder of 100 layers has some 100,000.
	maxMessages = 1 << 20
)

// Decode parses the bytes of model.onnx. It checks what the structs need (types
// known, names valid UTF-8, inline data as long as dims and type say, external
// ranges sensible); everything else is for [Check]. It keeps no reference to b.
func Decode(b []byte) (*Model, error) {
	if int64(len(b)) > MaxModelBytes {
		return nil, &tensor.FormatError{Offset: -1, Field: "model", Err: fmt.Errorf("%d bytes, more than the 2 GB a protobuf message can have", len(b))}
	}
	if err := checkCost(b); err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "model", Err: err}
	}
	p := &pb.ModelProto{}
	err := proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxNesting}.Unmarshal(b, p)
	if err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "model", Err: fmt.Errorf("not an ONNX protobuf message: %w", err)}
	}
	var d decoder
	m := d.model(p)
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

// checkCost walks the message without unpacking it and refuses one that nests
// too deeply or holds too many messages.
func checkCost(b []byte) error {
	count := 0
	var walk func(b []byte, md protoreflect.MessageDescriptor, depth int) error
	walk = func(b []byte, md protoreflect.MessageDescriptor, depth int) error {
		if depth > maxNesting {
			return fmt.Errorf("messages nest more than %d deep", maxNesting)
		}
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 {
				return fmt.Errorf("not an ONNX protobuf message: %w", protowire.ParseError(n))
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return fmt.Errorf("not an ONNX protobuf message: %w", protowire.ParseError(n))
			}
			value := b[:n]
			b = b[n:]
			fd := md.Fields().ByNumber(num)
			if fd == nil || fd.Message() == nil || typ != protowire.BytesType {
				continue
			}
			if count++; count > maxMessages {
				return fmt.Errorf("holds more than %d messages", maxMessages)
			}
			value, _ = protowire.ConsumeBytes(value)
			if err := walk(value, fd.Message(), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(b, (&pb.ModelProto{}).ProtoReflect().Descriptor(), 0)
}

// decoder converts messages to plain structs and keeps its first error.
type decoder struct {
	err     error
	dropped map[string]int
	order   []string
}

func (d *decoder) fail(field, format string, args ...any) {
	if d.err == nil {
		d.err = &tensor.FormatError{Offset: -1, Field: field, Err: fmt.Errorf(format, args...)}
	}
}

// drop notes n things of one kind that the structs do not represent.
func (d *decoder) drop(what string, n int) {
	if n == 0 {
		return
	}
	if d.dropped == nil {
		d.dropped = map[string]int{}
	}
	if d.dropped[what] == 0 {
		d.order = append(d.order, what)
	}
	d.dropped[what] += n
}

// text checks that a name can be printed, compared and written to JSON.
func (d *decoder) text(field, s string) string {
	if !utf8.ValidString(s) {
		d.fail(field, "%q is not valid UTF-8", s)
	}
	return s
}

func (d *decoder) model(p *pb.ModelProto) *Model {
	if p.Graph == nil {
		d.fail("graph", "the model has none; is this an ONNX file?")
		return nil
	}
	m := &Model{
		IRVersion: p.GetIrVersion(), Version: p.GetModelVersion(),
		Producer:        d.text("producer_name", p.GetProducerName()),
		ProducerVersion: d.text("producer_version", p.GetProducerVersion()),
		Domain:          d.text("domain", p.GetDomain()),
		Doc:             d.text("doc_string", p.GetDocString()),
	}
	for _, o := range p.OpsetImport {
		m.Opsets = append(m.Opsets, Opset{d.text("opset_import", o.GetDomain()), o.GetVersion()})
	}
	for _, e := range p.MetadataProps {
		m.Metadata = append(m.Metadata, Entry{d.text("metadata_props", e.GetKey()), d.text("metadata_props", e.GetValue())})
	}
	d.drop("functions", len(p.Functions))
	d.drop("training infos", len(p.TrainingInfo))
	m.Graph = d.graph(p.Graph)
	for _, what := range d.order {
		m.Dropped = append(m.Dropped, fmt.Sprintf("%d %s", d.dropped[what], what))
	}
	return m
}

func (d *decoder) graph(p *pb.GraphProto) *Graph {
	g := &Graph{Name: d.text("graph", p.GetName()), Doc: d.text("graph", p.GetDocString())}
	g.Inputs = d.values("input", p.Input)
	g.Outputs = d.values("output", p.Output)
	g.Values = d.values("value_info", p.ValueInfo)
	for _, n := range p.Node {
		g.Nodes = append(g.Nodes, d.node(n))
		if d.err != nil {
			return nil
		}
	}
	for _, t := range p.Initializer {
		g.Initializers = append(g.Initializers, d.tensor(fmt.Sprintf("initializer %q", t.GetName()), t))
		if d.err != nil {
			return nil
		}
	}
	d.drop("sparse initializers", len(p.SparseInitializer))
	return g
}

func (d *decoder) values(field string, ps []*pb.ValueInfoProto) []Value {
	var vs []Value
	for _, p := range ps {
		v := Value{Name: d.text(field, p.GetName()), Doc: d.text(field, p.GetDocString())}
		switch t := p.GetType().GetValue().(type) {
		case nil:
		case *pb.TypeProto_TensorType:
			v.Elem = ElemType(t.TensorType.GetElemType())
			if v.Elem != Undefined && !v.Elem.Valid() {
				d.fail(field, "value %q has unknown element type %d", v.Name, v.Elem)
			}
			v.Shape = d.shape(field, v.Name, t.TensorType.Shape)
		default:
			d.drop("values that are not tensors", 1)
		}
		vs = append(vs, v)
	}
	return vs
}

func (d *decoder) shape(field, name string, p *pb.TensorShapeProto) Shape {
	if p == nil {
		return nil
	}
	s := make(Shape, len(p.Dim))
	for i, dim := range p.Dim {
		s[i] = Unknown
		switch v := dim.GetValue().(type) {
		case *pb.TensorShapeProto_Dimension_DimValue:
			// Some writers put -1 for an unknown extent; onnx.proto does not
			// provide for it, but readers take it so.
			s[i].Size = max(v.DimValue, -1)
		case *pb.TensorShapeProto_Dimension_DimParam:
			s[i].Name = d.text(field, v.DimParam)
		}
	}
	return s
}

func (d *decoder) node(p *pb.NodeProto) *Node {
	n := &Node{
		Domain: d.text("node domain", p.GetDomain()), Op: d.text("node op_type", p.GetOpType()),
		Name: d.text("node name", p.GetName()), Doc: d.text("node doc_string", p.GetDocString()),
	}
	for _, s := range p.Input {
		n.Inputs = append(n.Inputs, d.text("node input", s))
	}
	for _, s := range p.Output {
		n.Outputs = append(n.Outputs, d.text("node output", s))
	}
	for _, a := range p.Attribute {
		n.Attrs = append(n.Attrs, d.attr(n, a))
		if d.err != nil {
			return nil
		}
	}
	if p.GetOverload() != "" {
		d.drop("overloaded operator names", 1)
	}
	return n
}

func (d *decoder) attr(n *Node, p *pb.AttributeProto) Attr {
	a := Attr{Name: d.text("attribute", p.GetName()), Type: AttrType(p.GetType())}
	if p.GetRefAttrName() != "" {
		d.fail(n.Label(), "attribute %q refers to %q of a function, but the node is in a graph", a.Name, p.GetRefAttrName())
		return a
	}
	switch a.Type {
	case AttrFloat:
		a.F = p.GetF()
	case AttrInt:
		a.I = p.GetI()
	case AttrString:
		a.S = string(p.GetS())
	case AttrFloats:
		a.Floats = p.Floats
	case AttrInts:
		a.Ints = p.Ints
	case AttrStrings:
		for _, s := range p.Strings {
			a.Strings = append(a.Strings, string(s))
		}
	case AttrTensor:
		if p.T == nil {
			d.fail(n.Label(), "attribute %q of type TENSOR has no tensor", a.Name)
			return a
		}
		a.Tensor = d.tensor(fmt.Sprintf("%s attribute %q", n.Label(), a.Name), p.T)
	case AttrGraph:
		if p.G == nil {
			d.fail(n.Label(), "attribute %q of type GRAPH has no graph", a.Name)
			return a
		}
		a.Graph = d.graph(p.G)
	case 0:
		d.fail(n.Label(), "attribute %q has no type", a.Name)
	default:
		d.drop("attributes of type "+p.GetType().String(), 1)
	}
	return a
}

func (d *decoder) tensor(field string, p *pb.TensorProto) *Initializer {
	t := &Initializer{
		Name: d.text(field, p.GetName()), Doc: d.text(field, p.GetDocString()),
		Elem: ElemType(p.GetDataType()), Dims: p.Dims,
	}
	if !t.Elem.Valid() {
		d.fail(field, "unknown element type %d", p.GetDataType())
		return t
	}
	n, ok := elements(t.Dims)
	if ok && t.Elem != Text {
		n, ok = t.Bytes()
	}
	if !ok {
		d.fail(field, "impossible dims %v", t.Dims)
		return t
	}
	if p.Segment != nil {
		d.fail(field, "is stored in segments, which is not supported")
		return t
	}
	switch {
	case p.GetDataLocation() == pb.TensorProto_EXTERNAL:
		t.External = d.external(field, t, p, n)
	case t.Elem == Text:
		for _, s := range p.StringData {
			t.Strings = append(t.Strings, string(s))
		}
		if int64(len(t.Strings)) != n {
			d.fail(field, "%d strings do not fill dims %v", len(t.Strings), t.Dims)
		}
	default:
		t.Data = inlineData(t.Elem, p)
		if int64(len(t.Data)) != n {
			d.fail(field, "%d bytes of data, but %v %v takes %d", len(t.Data), t.Elem, t.Dims, n)
		}
	}
	return t
}

// external parses the key-value pairs of external_data; want is the size by
// type and dims.
func (d *decoder) external(field string, t *Initializer, p *pb.TensorProto, want int64) *External {
	e := &External{Length: -1}
	for _, kv := range p.ExternalData {
		var err error
		switch kv.GetKey() {
		case "location":
			e.Location = d.text(field, kv.GetValue())
		case "offset":
			e.Offset, err = parseSize(kv.GetValue())
		case "length":
			e.Length, err = parseSize(kv.GetValue())
		}
		if err != nil {
			d.fail(field, "external data %s %q: %w", kv.GetKey(), kv.GetValue(), err)
		}
	}
	switch {
	case t.Elem == Text:
		d.fail(field, "STRING tensors cannot be external")
	case len(p.RawData) > 0:
		d.fail(field, "has both inline and external data")
	case e.Location == "":
		d.fail(field, "external data without a location")
	case e.Length >= 0 && e.Length != want:
		d.fail(field, "external data of %d bytes, but %v %v takes %d", e.Length, t.Elem, t.Dims, want)
	case e.Offset > math.MaxInt64-want:
		d.fail(field, "external data offset %d is impossible", e.Offset)
	}
	return e
}

func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a size in bytes")
	}
	return n, nil
}

// inlineData gathers the elements of whichever field holds them into raw form.
// A value that does not fit the type is cut, as by every other reader.
func inlineData(elem ElemType, p *pb.TensorProto) []byte {
	le := binary.LittleEndian
	if p.RawData != nil {
		return p.RawData
	}
	var b []byte
	switch elem {
	case F32, C64:
		for _, v := range p.FloatData {
			b = le.AppendUint32(b, math.Float32bits(v))
		}
	case F64, C128:
		for _, v := range p.DoubleData {
			b = le.AppendUint64(b, math.Float64bits(v))
		}
	case I64:
		for _, v := range p.Int64Data {
			b = le.AppendUint64(b, uint64(v))
		}
	case U64:
		for _, v := range p.Uint64Data {
			b = le.AppendUint64(b, v)
		}
	case U32:
		for _, v := range p.Uint64Data {
			b = le.AppendUint32(b, uint32(v))
		}
	case F6E2M3, F6E3M2:
		b = pack6(p.Int32Data)
	default: // int32_data: one element, or one byte of packed elements, each
		for _, v := range p.Int32Data {
			switch elem.Bits() {
			case 32:
				b = le.AppendUint32(b, uint32(v))
			case 16:
				b = le.AppendUint16(b, uint16(v))
			default:
				b = append(b, byte(v))
			}
		}
	}
	return b
}

// pack6 packs 6-bit elements, one an entry, four into three bytes.
func pack6(vs []int32) []byte {
	b := make([]byte, (len(vs)*6+7)/8)
	for i, v := range vs {
		bit := i * 6
		w := uint16(v&0x3f) << (bit % 8)
		b[bit/8] |= byte(w)
		if w > 0xff {
			b[bit/8+1] |= byte(w >> 8)
		}
	}
	return b
}
