package llama

import (
	"fmt"
	"math"
	"unsafe"
)

// Tokenize is llama.cpp's own tokenizer. addSpecial adds the tokens the model
// wants at the beginning and end, parseSpecial lets text that spells a control
// token become that token.
func (m *Model) Tokenize(text string, addSpecial, parseSpecial bool) ([]int32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return nil, fmt.Errorf("tokenize with model %s: %w", m.path, errClosed)
	}
	if len(text) > math.MaxInt32/2 {
		return nil, fmt.Errorf("tokenize with model %s: a text of %d bytes is too long", m.path, len(text))
	}
	vocab := m.lib.api.modelVocab(m.ptr)
	data := append([]byte(text), 0)
	ids := make([]int32, len(text)+8)
	for range 2 {
		n := m.lib.api.tokenize(vocab, unsafe.Pointer(&data[0]), int32(len(text)), unsafe.Pointer(&ids[0]), int32(len(ids)), addSpecial, parseSpecial)
		switch {
		case n >= 0:
			return ids[:n], nil
		case n == math.MinInt32:
			return nil, fmt.Errorf("tokenize with model %s: too many tokens", m.path)
		}
		ids = make([]int32, -n) // so many are needed
	}
	return nil, fmt.Errorf("tokenize with model %s: llama.cpp gives no tokens", m.path)
}

// Piece is the text of a token as it appears in a text; special makes control
// tokens visible.
func (m *Model) Piece(id int32, special bool) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return "", fmt.Errorf("read token %d of model %s: %w", id, m.path, errClosed)
	}
	vocab := m.lib.api.modelVocab(m.ptr)
	if n := m.lib.api.vocabTokens(vocab); id < 0 || id >= n {
		return "", fmt.Errorf("read token %d of model %s: it has %d", id, m.path, n)
	}
	buf := make([]byte, 64)
	for range 2 {
		n := m.lib.api.tokenToPiece(vocab, id, unsafe.Pointer(&buf[0]), int32(len(buf)), 0, special)
		if n >= 0 {
			return string(buf[:n]), nil
		}
		buf = make([]byte, -n)
	}
	return "", fmt.Errorf("read token %d of model %s: llama.cpp gives no text", id, m.path)
}

// Special are the ids of named tokens, -1 for none.
type Special struct {
	BOS, EOS int32
	AddBOS   bool // texts begin with BOS
}

// Special reads the named tokens; after Close there are none.
func (m *Model) Special() Special {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return Special{BOS: -1, EOS: -1}
	}
	a := &m.lib.api
	v := a.modelVocab(m.ptr)
	return Special{BOS: a.vocabBOS(v), EOS: a.vocabEOS(v), AddBOS: a.vocabAddBOS(v)}
}

// EndsGeneration reports whether a token ends an answer.
func (m *Model) EndsGeneration(id int32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return false
	}
	v := m.lib.api.modelVocab(m.ptr)
	return id >= 0 && id < m.lib.api.vocabTokens(v) && m.lib.api.vocabIsEOG(v, id)
}
