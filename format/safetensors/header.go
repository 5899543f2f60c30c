package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

const (
	// lengthBytes is the size of the field in front of the header.
	lengthBytes = 8
	// maxHeaderBytes is the limit of the reference implementation
	// (tensor.rs, MAX_HEADER_SIZE).
	maxHeaderBytes = 100_000_000
	metadataKey    = "__metadata__"
)

// Info is a tensor's entry in the header.
type Info struct {
	Name string
	// Type is the header's spelling, such as "BF16" or "F8_E4M3".
	Type  string
	Shape tensor.Shape
	// Offset is where the data starts, in bytes from the start of the file.
	Offset int64
	Bytes  int64
}

// otherTypes are the element types of the format that package tensor has no
// DType for, with their size in bits.
var otherTypes = map[string]int64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"C64": 64,
}

// dataBytes is the stored size of a tensor, from its type and shape.
func dataBytes(typ string, shape tensor.Shape) (int64, error) {
	bits := otherTypes[typ]
	if d, ok := tensor.ParseDType(typ); ok {
		bits = int64(d.Size()) * 8
	}
	if bits == 0 {
		return 0, fmt.Errorf("dtype %q is none of the format's element types", typ)
	}
	n, ok := shape.Elements()
	if !ok || n > math.MaxInt64/bits {
		return 0, fmt.Errorf("shape %v has a negative extent or more elements than 64 bits can count", shape)
	}
	if n*bits%8 != 0 {
		return 0, fmt.Errorf("%d elements of %s do not fill whole bytes", n, typ)
	}
	return n * bits / 8, nil
}

// header is what the JSON says, checked against the length of the data.
type header struct {
	metadata map[string]string
	infos    []Info // in the order of their offsets
}

// headerParser walks the JSON tokens, so that a name given twice is seen.
type headerParser struct {
	dec *json.Decoder
	header
}

// parseHeader checks the header text b of a file that has dataLen bytes after
// it. Info.Offset counts from the start of the file.
func parseHeader(b []byte, dataLen int64) (*header, error) {
	if len(b) == 0 || b[0] != '{' {
		return nil, formatErr(lengthBytes, "header", errors.New("does not start with '{'; is this a safetensors file?"))
	}
	if !utf8.Valid(b) {
		return nil, formatErr(lengthBytes, "header", errors.New("is not valid UTF-8"))
	}
	p := &headerParser{dec: json.NewDecoder(bytes.NewReader(b))}
	p.dec.UseNumber()
	if err := p.object("header", p.entry); err != nil {
		return nil, err
	}
	at := p.dec.InputOffset()
	if rest := bytes.TrimRight(b[at:], " \t\r\n"); len(rest) > 0 {
		return nil, formatErr(lengthBytes+at, "header", errors.New("has text after the JSON object"))
	}
	return &p.header, p.checkOffsets(int64(lengthBytes+len(b)), dataLen)
}

func formatErr(offset int64, field string, err error) error {
	var fe *tensor.FormatError
	if errors.As(err, &fe) {
		return err
	}
	return &tensor.FormatError{Offset: offset, Field: field, Err: err}
}

// fail reports a fault at the parser's place in the file.
func (p *headerParser) fail(field, format string, a ...any) error {
	return formatErr(lengthBytes+p.dec.InputOffset(), field, fmt.Errorf(format, a...))
}

// object reads one JSON object and calls member for each key, with the decoder
// in front of the value. A key given twice is refused.
func (p *headerParser) object(field string, member func(key string) error) error {
	if err := p.delim(field, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return p.fail(field, "not JSON: %w", jsonErr(err))
		}
		key, ok := t.(string)
		if !ok {
			return p.fail(field, "not JSON: %v where a name belongs", t)
		}
		if seen[key] {
			return p.fail(field, "%q is there twice", key)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
	}
	return p.delim(field, '}')
}

func (p *headerParser) delim(field string, want json.Delim) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(field, "not JSON: %w", jsonErr(err))
	}
	if t != want {
		return p.fail(field, "%.40q where %v belongs", fmt.Sprint(t), want)
	}
	return nil
}

// jsonErr names the end of a cut header for what it is.
func jsonErr(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// entry reads one member of the header: the metadata or a tensor.
func (p *headerParser) entry(name string) error {
	if name == metadataKey {
		p.metadata = map[string]string{}
		return p.object(metadataKey, func(key string) error {
			t, err := p.dec.Token()
			if err != nil {
				return p.fail(metadataKey, "not JSON: %w", jsonErr(err))
			}
			s, ok := t.(string)
			if !ok {
				return p.fail(metadataKey, "the value of %q is not a string", key)
			}
			p.metadata[key] = s
			return nil
		})
	}
	field := fmt.Sprintf("tensor %.80q", name)
	info := Info{Name: name}
	var shape, span []int64
	err := p.object(field, func(key string) (err error) {
		switch key {
		case "dtype":
			t, err := p.dec.Token()
			s, ok := t.(string)
			if err != nil || !ok {
				return p.fail(field, "dtype is not a string")
			}
			info.Type = s
		case "shape":
			shape, err = p.counts(field, key)
		case "data_offsets":
			span, err = p.counts(field, key)
		default:
			var skip json.RawMessage
			if err := p.dec.Decode(&skip); err != nil {
				return p.fail(field, "not JSON: %w", jsonErr(err))
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if info.Type == "" || shape == nil || len(span) != 2 {
		return p.fail(field, "wants dtype, shape and two data_offsets")
	}
	for _, n := range shape {
		info.Shape = append(info.Shape, int(n))
	}
	return p.add(field, info, span[0], span[1])
}

// counts reads an array of whole numbers that are not negative.
func (p *headerParser) counts(field, key string) ([]int64, error) {
	if err := p.delim(field+": "+key, '['); err != nil {
		return nil, err
	}
	out := []int64{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, p.fail(field, "not JSON: %w", jsonErr(err))
		}
		num, ok := t.(json.Number)
		n, err := num.Int64()
		if !ok || err != nil || n < 0 {
			return nil, p.fail(field, "%s holds %.40q, want whole numbers that are not negative", key, fmt.Sprint(t))
		}
		out = append(out, n)
	}
	return out, p.delim(field+": "+key, ']')
}

// add checks a tensor's size against its shape. begin and end count from the
// end of the header; [headerParser.checkOffsets] moves them.
func (p *headerParser) add(field string, info Info, begin, end int64) error {
	want, err := dataBytes(info.Type, info.Shape)
	if err != nil {
		return p.fail(field, "%w", err)
	}
	if end < begin {
		return p.fail(field, "data_offsets %d, %d run backwards", begin, end)
	}
	if end-begin != want {
		return p.fail(field, "data_offsets span %d bytes, but %v of %s needs %d", end-begin, info.Shape, info.Type, want)
	}
	info.Offset, info.Bytes = begin, want
	p.infos = append(p.infos, info)
	return nil
}

// checkOffsets makes sure that the tensors fill the data exactly, one after
// the other, as the format demands.
func (p *headerParser) checkOffsets(dataStart, dataLen int64) error {
	slices.SortFunc(p.infos, func(a, b Info) int {
		switch {
		case a.Offset != b.Offset:
			return int(min(max(a.Offset-b.Offset, -1), 1))
		case a.Bytes != b.Bytes:
			return int(min(max(a.Bytes-b.Bytes, -1), 1))
		}
		return strings.Compare(a.Name, b.Name)
	})
	var end int64
	for i := range p.infos {
		t := &p.infos[i]
		field := fmt.Sprintf("tensor %.80q", t.Name)
		if t.Offset < end {
			return formatErr(dataStart+t.Offset, field, fmt.Errorf("overlaps tensor %.80q, which ends at data offset %d", p.infos[i-1].Name, end))
		}
		if t.Offset > end {
			return formatErr(dataStart+end, field, fmt.Errorf("%d bytes in front of it belong to no tensor", t.Offset-end))
		}
		if t.Bytes > dataLen-t.Offset {
			return formatErr(dataStart+t.Offset, field, fmt.Errorf("its %d bytes reach beyond the end of the file, which holds %d bytes of data: the file is truncated; download it again", t.Bytes, dataLen))
		}
		end = t.Offset + t.Bytes
		t.Offset += dataStart
	}
	if end != dataLen {
		return formatErr(dataStart+end, "data", fmt.Errorf("%d bytes after the last tensor belong to no tensor", dataLen-end))
	}
	return nil
}
