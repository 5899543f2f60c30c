package onnx

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/llama-pajamas/llama-pajamas/format/onnx/internal/pb"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// MaxModelBytes is where protobuf messages end: readers take sizes as int32.
const MaxModelBytes = math.MaxInt32

// Encode returns the bytes of model.onnx. The same model gives the same bytes.
// It refuses what cannot be written down (see [Model.Dropped]; inline data
// beyond [MaxModelBytes] in all) but does not check the graph: [Check] does.
func (m *Model) Encode() ([]byte, error) {
	if len(m.Dropped) > 0 {
		return nil, &tensor.UnsupportedError{
			What: "writing an ONNX model that held " + strings.Join(m.Dropped, ", "),
			Hint: "these parts were not read and would be lost; inline or remove them first",
		}
	}
	if m.Graph == nil {
		return nil, fmt.Errorf("encode ONNX model: it has no graph")
	}
	var inline int64
	for _, t := range m.Graph.Initializers {
		if t.External == nil {
			inline += int64(len(t.Data))
		}
	}
	if inline > MaxModelBytes {
		return nil, fmt.Errorf("encode ONNX model: %d bytes of inline initializers exceed the 2 GB that protobuf can hold; store them as external data", inline)
	}
	p, err := m.proto()
	if err != nil {
		return nil, fmt.Errorf("encode ONNX model: %w", err)
	}
	if n := proto.Size(p); int64(n) > MaxModelBytes {
		return nil, fmt.Errorf("encode ONNX model: %d bytes exceed the 2 GB that protobuf can hold; store initializers as external data", n)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode ONNX model: %w", err)
	}
	return b, nil
}

func (m *Model) proto() (*pb.ModelProto, error) {
	g, err := m.Graph.proto()
	if err != nil {
		return nil, err
	}
	p := &pb.ModelProto{
		IrVersion:       proto.Int64(m.IRVersion),
		ProducerName:    optional(m.Producer),
		ProducerVersion: optional(m.ProducerVersion),
		Domain:          optional(m.Domain),
		DocString:       optional(m.Doc),
		Graph:           g,
		MetadataProps:   entriesProto(m.Metadata),
	}
	if m.Version != 0 {
		p.ModelVersion = proto.Int64(m.Version)
	}
	for _, o := range m.Opsets {
		p.OpsetImport = append(p.OpsetImport, &pb.OperatorSetIdProto{
			Domain: proto.String(o.Domain), Version: proto.Int64(o.Version),
		})
	}
	return p, nil
}

// optional leaves an empty string out of the message.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func entriesProto(es []Entry) []*pb.StringStringEntryProto {
	var ps []*pb.StringStringEntryProto
	for _, e := range es {
		ps = append(ps, &pb.StringStringEntryProto{Key: proto.String(e.Key), Value: proto.String(e.Value)})
	}
	return ps
}

func (g *Graph) proto() (*pb.GraphProto, error) {
	p := &pb.GraphProto{
		Name: optional(g.Name), DocString: optional(g.Doc),
		Input: valuesProto(g.Inputs), Output: valuesProto(g.Outputs), ValueInfo: valuesProto(g.Values),
	}
	for _, n := range g.Nodes {
		np, err := n.proto()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Label(), err)
		}
		p.Node = append(p.Node, np)
	}
	for _, t := range g.Initializers {
		tp, err := t.proto()
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", t.Name, err)
		}
		p.Initializer = append(p.Initializer, tp)
	}
	return p, nil
}

func valuesProto(vs []Value) []*pb.ValueInfoProto {
	var ps []*pb.ValueInfoProto
	for _, v := range vs {
		p := &pb.ValueInfoProto{Name: proto.String(v.Name), DocString: optional(v.Doc)}
		if v.Elem != Undefined || v.Shape != nil {
			p.Type = &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{
				ElemType: proto.Int32(int32(v.Elem)), Shape: shapeProto(v.Shape),
			}}}
		}
		ps = append(ps, p)
	}
	return ps
}

func shapeProto(s Shape) *pb.TensorShapeProto {
	if s == nil {
		return nil
	}
	p := &pb.TensorShapeProto{}
	for _, d := range s {
		dp := &pb.TensorShapeProto_Dimension{}
		switch {
		case d.IsFixed():
			dp.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: d.Size}
		case d.Name != "":
			dp.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d.Name}
		}
		p.Dim = append(p.Dim, dp)
	}
	return p
}

func (n *Node) proto() (*pb.NodeProto, error) {
	p := &pb.NodeProto{
		Input: n.Inputs, Output: n.Outputs, Name: optional(n.Name),
		OpType: proto.String(n.Op), Domain: optional(n.Domain), DocString: optional(n.Doc),
	}
	for i := range n.Attrs {
		ap, err := n.Attrs[i].proto()
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", n.Attrs[i].Name, err)
		}
		p.Attribute = append(p.Attribute, ap)
	}
	return p, nil
}

func (a *Attr) proto() (*pb.AttributeProto, error) {
	p := &pb.AttributeProto{Name: proto.String(a.Name), Type: pb.AttributeProto_AttributeType(a.Type).Enum()}
	var err error
	switch a.Type {
	case AttrFloat:
		p.F = proto.Float32(a.F)
	case AttrInt:
		p.I = proto.Int64(a.I)
	case AttrString:
		p.S = []byte(a.S)
	case AttrFloats:
		p.Floats = a.Floats
	case AttrInts:
		p.Ints = a.Ints
	case AttrStrings:
		for _, s := range a.Strings {
			p.Strings = append(p.Strings, []byte(s))
		}
	case AttrTensor:
		if a.Tensor == nil {
			return nil, fmt.Errorf("of type TENSOR has no tensor")
		}
		p.T, err = a.Tensor.proto()
	case AttrGraph:
		if a.Graph == nil {
			return nil, fmt.Errorf("of type GRAPH has no graph")
		}
		p.G, err = a.Graph.proto()
	default:
		return nil, fmt.Errorf("unknown type %v", a.Type)
	}
	return p, err
}

func (t *Initializer) proto() (*pb.TensorProto, error) {
	p := &pb.TensorProto{
		Name: optional(t.Name), DocString: optional(t.Doc),
		DataType: proto.Int32(int32(t.Elem)), Dims: t.Dims,
	}
	switch {
	case t.External != nil:
		if len(t.Data)+len(t.Strings) > 0 {
			return nil, fmt.Errorf("has both inline and external data")
		}
		if t.Elem == Text {
			return nil, fmt.Errorf("STRING tensors cannot be external")
		}
		p.DataLocation = pb.TensorProto_EXTERNAL.Enum()
		p.ExternalData = externalProto(t.External)
	case t.Elem == Text:
		if n, ok := elements(t.Dims); !ok || n != int64(len(t.Strings)) {
			return nil, fmt.Errorf("%d strings do not fill dims %v", len(t.Strings), t.Dims)
		}
		for _, s := range t.Strings {
			p.StringData = append(p.StringData, []byte(s))
		}
	default:
		n, ok := t.Bytes()
		if !ok {
			return nil, fmt.Errorf("no size for type %v and dims %v", t.Elem, t.Dims)
		}
		if n != int64(len(t.Data)) {
			return nil, fmt.Errorf("%d bytes of data, but %v %v takes %d", len(t.Data), t.Elem, t.Dims, n)
		}
		p.RawData = t.Data
		if p.RawData == nil {
			p.RawData = []byte{}
		}
	}
	return p, nil
}

func externalProto(e *External) []*pb.StringStringEntryProto {
	es := []Entry{{"location", e.Location}, {"offset", strconv.FormatInt(e.Offset, 10)}}
	if e.Length >= 0 {
		es = append(es, Entry{"length", strconv.FormatInt(e.Length, 10)})
	}
	return entriesProto(es)
}
