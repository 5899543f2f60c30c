package fidelity

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// A logits file keeps a reference's logits, so that models are compared with
// it without running it again. All numbers are little-endian:
//
//	0   8  magic "lpLogits"
//	8   4  u32 version, 1
//	12  4  u32 length H of the header
//	16  H  header, JSON: see Header
//	    4N token ids of the text, u32 each
//	    R  rows, in the order of the windows, 12+2V bytes each:
//	         f32 top    the largest logit
//	         f32 span   top less the smallest finite logit
//	         u32 crc    CRC-32C of top, span and codes
//	         V × u16    codes c: logit = top - span·(c/65534)², 65535 = -Inf
//
// Square-root spacing is finest where probabilities are large. On 1024 tokens
// of SmolLM2-135M it adds 2.5e-9 to the KL divergence and changes no best
// token; even spacing adds 5.6e-9 and changes one in a thousand, float16 of
// the distance to the top adds 2.4e-7. The file's size follows from its
// header, so a file cut short is seen when it is opened.
const (
	logitsMagic   = "lpLogits"
	logitsVersion = 1
	rowHeader     = 12
	topCode       = 65534
	infCode       = 65535
	// maxHeader bounds the JSON header: names and numbers only.
	maxHeader = 64 << 10
)

// Header says what a logits file holds.
type Header struct {
	Model      string     `json:"model"`     // id of the checkpoint
	Reference  string     `json:"reference"` // how the logits were computed
	Text       string     `json:"text"`      // name of the text
	Definition Definition `json:"definition"`
	Vocab      int        `json:"vocab_size"`
	// Tokens is the text; the file has its length and hash in the header and
	// the ids behind it.
	Tokens []int32 `json:"-"`
}

// storedHeader is the JSON of the file.
type storedHeader struct {
	Header
	Count  int    `json:"tokens"`
	SHA256 string `json:"tokens_sha256"`
}

// TokensSHA256 is the hash of token ids as little-endian u32.
func TokensSHA256(ids []int32) string {
	h := sha256.New()
	h.Write(idBytes(ids))
	return hex.EncodeToString(h.Sum(nil))
}

func idBytes(ids []int32) []byte {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check refuses headers that no file can have.
func (h Header) check() error {
	if err := h.Definition.Check(); err != nil {
		return err
	}
	if h.Vocab < 1 || h.Vocab > math.MaxInt32 {
		return fmt.Errorf("vocabulary of %d", h.Vocab)
	}
	for i, id := range h.Tokens {
		if id < 0 || int(id) >= h.Vocab {
			return fmt.Errorf("token %d is id %d, outside the vocabulary of %d", i, id, h.Vocab)
		}
	}
	return nil
}

// LogitsWriter writes a logits file row by row.
type LogitsWriter struct {
	w     *bufio.Writer
	vocab int
	left  int
	buf   []byte
}

// CreateLogits writes the head of a logits file.
func CreateLogits(w io.Writer, h Header) (*LogitsWriter, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("create logits file: %w", err)
	}
	text, err := json.Marshal(storedHeader{h, len(h.Tokens), TokensSHA256(h.Tokens)})
	if err != nil {
		return nil, fmt.Errorf("create logits file: %w", err)
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("create logits file: names of %d bytes, at most %d", len(text), maxHeader)
	}
	b := append([]byte(logitsMagic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(b[8:], logitsVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(text)))
	b = append(append(b, text...), idBytes(h.Tokens)...)
	lw := &LogitsWriter{w: bufio.NewWriterSize(w, 256<<10), vocab: h.Vocab, left: Rows(h.Definition.Cut(len(h.Tokens))), buf: make([]byte, rowHeader+2*h.Vocab)}
	if _, err := lw.w.Write(b); err != nil {
		return nil, fmt.Errorf("write logits file: %w", err)
	}
	return lw, nil
}

// Add writes the logits [vocab] of the next position that counts. -Inf means
// "never"; NaN and +Inf are errors.
func (w *LogitsWriter) Add(row []float32) error {
	if len(row) != w.vocab {
		return fmt.Errorf("write logits: a row of %d, the vocabulary has %d", len(row), w.vocab)
	}
	if w.left == 0 {
		return errors.New("write logits: more rows than the text has positions that count")
	}
	b, err := best(row)
	if err != nil {
		return fmt.Errorf("write logits: %w", err)
	}
	top := row[b]
	low := top
	for _, x := range row {
		if x < low && !math.IsInf(float64(x), -1) {
			low = x
		}
	}
	span := float32(float64(top) - float64(low))
	if math.IsInf(float64(span), 1) {
		return fmt.Errorf("write logits: from %g to %g is too far", low, top)
	}
	scale := 0.0
	if span > 0 {
		scale = topCode * topCode / float64(span)
	}
	codes := w.buf[rowHeader:]
	for i, x := range row {
		c := uint16(infCode)
		if !math.IsInf(float64(x), -1) {
			c = uint16(min(topCode, math.Sqrt(scale*(float64(top)-float64(x)))+0.5))
		}
		binary.LittleEndian.PutUint16(codes[2*i:], c)
	}
	binary.LittleEndian.PutUint32(w.buf, math.Float32bits(top))
	binary.LittleEndian.PutUint32(w.buf[4:], math.Float32bits(span))
	binary.LittleEndian.PutUint32(w.buf[8:], rowSum(w.buf))
	if _, err := w.w.Write(w.buf); err != nil {
		return fmt.Errorf("write logits: %w", err)
	}
	w.left--
	return nil
}

func rowSum(row []byte) uint32 {
	return crc32.Update(crc32.Checksum(row[:8], castagnoli), castagnoli, row[rowHeader:])
}

// Close writes what is buffered; rows that are missing are an error. It does
// not close the file below.
func (w *LogitsWriter) Close() error {
	if w.left > 0 {
		return fmt.Errorf("write logits: %d rows are missing", w.left)
	}
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write logits: %w", err)
	}
	return nil
}

// Logits is an open logits file. One goroutine uses it at a time.
type Logits struct {
	header Header
	r      io.ReaderAt
	start  int64 // of the rows
	rows   int
	path   string
	close  func() error
	buf    []byte
}

// OpenLogits opens a logits file and checks that it is complete.
func OpenLogits(path string) (*Logits, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open logits file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open logits file: %w", err)
	}
	l, err := NewLogits(f, info.Size())
	if err != nil {
		f.Close()
		var fe *tensor.FormatError
		if errors.As(err, &fe) {
			fe.Path = path
		}
		return nil, err
	}
	l.path, l.close = path, f.Close
	return l, nil
}

// NewLogits reads the head of a logits file of size bytes. Memory is bounded
// by the size, whatever the head claims.
func NewLogits(r io.ReaderAt, size int64) (*Logits, error) {
	fail := func(offset int64, field, format string, a ...any) (*Logits, error) {
		return nil, &tensor.FormatError{Offset: offset, Field: field, Err: fmt.Errorf(format, a...)}
	}
	var head [16]byte
	if size < int64(len(head)) {
		return fail(0, "magic", "%d bytes are no logits file", size)
	}
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if string(head[:8]) != logitsMagic {
		return fail(0, "magic", "is not %q: no logits file", logitsMagic)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != logitsVersion {
		return fail(8, "version", "%d, this program reads %d", v, logitsVersion)
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if n > maxHeader || n > size-16 {
		return fail(12, "header length", "%d bytes, the file has %d and at most %d are read", n, size, maxHeader)
	}
	text := make([]byte, n)
	if err := readFull(r, text, 16); err != nil {
		return nil, err
	}
	var h storedHeader
	if err := json.Unmarshal(text, &h); err != nil {
		return fail(16, "header", "%w", err)
	}
	at := 16 + n
	if h.Count < 0 || int64(h.Count) > (size-at)/4 {
		return fail(16, "tokens", "%d do not fit into %d bytes; is the file complete?", h.Count, size)
	}
	ids := make([]byte, 4*h.Count)
	if err := readFull(r, ids, at); err != nil {
		return nil, err
	}
	h.Tokens = make([]int32, h.Count)
	for i := range h.Tokens {
		h.Tokens[i] = int32(binary.LittleEndian.Uint32(ids[4*i:]))
	}
	if err := h.check(); err != nil {
		return fail(16, "header", "%w", err)
	}
	if got := TokensSHA256(h.Tokens); got != h.SHA256 {
		return fail(at, "tokens_sha256", "the token ids hash to %s, the header says %q", got, h.SHA256)
	}
	at += 4 * int64(h.Count)
	rows, row := int64(Rows(h.Definition.Cut(h.Count))), int64(rowHeader+2*h.Vocab)
	switch want := rows * row; { // below 2^31 tokens times 2^33: no overflow
	case size-at < want:
		return fail(size, "rows", "the file ends %d bytes early: %d rows of %d bytes should follow byte %d; make it anew", want-(size-at), rows, row, at)
	case size-at > want:
		return fail(at+want, "rows", "%d bytes follow the last row", size-at-want)
	}
	return &Logits{header: h.Header, r: r, start: at, rows: int(rows)}, nil
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read logits file: %w", err)
	}
	return nil
}

// Header says what the file holds; its Tokens must not be changed.
func (l *Logits) Header() Header { return l.header }

// Rows is the number of rows: the positions that count of all windows.
func (l *Logits) Rows() int { return l.rows }

// Row reads row i into dst [vocab].
func (l *Logits) Row(i int, dst []float32) error {
	if i < 0 || i >= l.rows || len(dst) != l.header.Vocab {
		return fmt.Errorf("read logits: row %d into %d, there are %d rows of %d", i, len(dst), l.rows, l.header.Vocab)
	}
	if l.buf == nil {
		l.buf = make([]byte, rowHeader+2*l.header.Vocab)
	}
	at := l.start + int64(i)*int64(len(l.buf))
	if err := readFull(l.r, l.buf, at); err != nil {
		return err
	}
	fail := func(field, format string, a ...any) error {
		return &tensor.FormatError{Path: l.path, Offset: at, Field: field, Err: fmt.Errorf("row %d: "+format, append([]any{i}, a...)...)}
	}
	if binary.LittleEndian.Uint32(l.buf[8:]) != rowSum(l.buf) {
		return fail("crc", "the checksum does not match: the file is damaged")
	}
	top := float64(math.Float32frombits(binary.LittleEndian.Uint32(l.buf)))
	span := float64(math.Float32frombits(binary.LittleEndian.Uint32(l.buf[4:])))
	if math.IsNaN(top-span) || math.IsInf(top-span, 0) || span < 0 {
		return fail("span", "from %g down by %g", top, span)
	}
	scale := span / (topCode * topCode)
	for k := range dst {
		c := binary.LittleEndian.Uint16(l.buf[rowHeader+2*k:])
		if c == infCode {
			dst[k] = float32(math.Inf(-1))
			continue
		}
		dst[k] = float32(top - float64(scale*float64(c))*float64(c))
	}
	return nil
}

// Close closes the file that [OpenLogits] opened.
func (l *Logits) Close() error {
	if l.close == nil {
		return nil
	}
	return l.close()
}
