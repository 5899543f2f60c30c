package tokenizer

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Piece is one token of a SentencePiece model.
type Piece struct {
	Text  string
	Score float32
	// Type is llama.h's and SentencePiece's number of the token's kind.
	Type int32
}

// ParseSentencePiece reads the tokens of a tokenizer.model: field 1 of its
// protobuf message, with piece, score and type as fields 1, 2 and 3
// (sentencepiece_model.proto, ModelProto).
func ParseSentencePiece(data []byte) ([]Piece, error) {
	var pieces []Piece
	err := fields(data, func(number int, value []byte, _ uint64) error {
		if number != 1 || value == nil {
			return nil
		}
		p := Piece{Type: 1}
		err := fields(value, func(number int, value []byte, bits uint64) error {
			switch {
			case number == 1 && value != nil:
				p.Text = string(value)
			case number == 2 && value == nil:
				p.Score = math.Float32frombits(uint32(bits))
			case number == 3 && value == nil:
				p.Type = int32(bits)
			}
			return nil
		})
		if err == nil && !utf8.ValidString(p.Text) {
			err = errors.New("a token that is not valid UTF-8")
		}
		pieces = append(pieces, p)
		return err
	})
	if err == nil && len(pieces) == 0 {
		err = errors.New("no tokens: not a SentencePiece model")
	}
	if err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "tokenizer.model", Err: err}
	}
	return pieces, nil
}

// fields calls f for each field of a protobuf message: with its bytes, or for
// numbers with their bits and no bytes.
func fields(b []byte, f func(number int, value []byte, bits uint64) error) error {
	errCut := errors.New("a field is cut off")
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return errors.New("a broken field tag")
		}
		b = b[n:]
		var value []byte
		var bits uint64
		switch tag & 7 {
		case 0:
			bits, n = binary.Uvarint(b)
		case 1:
			if n = 8; len(b) >= n {
				bits = binary.LittleEndian.Uint64(b)
			}
		case 2:
			size, k := binary.Uvarint(b)
			if k <= 0 || size > uint64(len(b)-k) {
				return errCut
			}
			n = k + int(size)
			value = b[k:n:n]
		case 5:
			if n = 4; len(b) >= n {
				bits = uint64(binary.LittleEndian.Uint32(b))
			}
		default:
			return errors.New("a field of unknown kind")
		}
		if n <= 0 || n > len(b) {
			return errCut
		}
		if err := f(int(tag>>3), value, bits); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
