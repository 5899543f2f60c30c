package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// bpe is the byte pair encoding model: a vocabulary and ranked merges of two
// tokens into one (tokenizers models/bpe/model.rs).
type bpe struct {
	vocab  map[string]int32
	tokens []string // by id, "" where no token has the id
	merges []merge  // in rank order, as read

	unkToken     string // "" where there is none
	hasUnk       bool
	fuseUnk      bool
	byteFallback bool
	ignoreMerges bool

	table mergeTable
	unkID int32 // -1 where there is none

	// Byte mode (the last pre-tokenizer is ByteLevel): words are raw bytes.
	byteMode bool
	byteID   [256]int32 // token of each byte's character, -1 where absent

	// Character mode.
	charID   map[rune]int32
	latinID  [256]int32 // charID of U+0000 to U+00FF, -1 where absent
	fallback [256]int32 // tokens <0x00> to <0xFF>, -1 where absent
	// joints holds the pairs of characters between which some merge works, as
	// tokens; text may be cut at every other pair. nil where text may not be cut.
	joints *mergeTable
}

// finish builds the tables from vocab, tokens and merges. Each merge must name
// tokens whose joint spelling is a token too.
func (m *bpe) finish(byteMode bool) error {
	m.byteMode = byteMode
	m.table = newMergeTable(len(m.merges))
	var joint []byte
	id := int32(-1)
	for rank, p := range m.merges {
		joint = append(append(joint[:0], m.tokens[p.left]...), m.tokens[p.right]...)
		// Tokens were numbered as their merges were learnt: mostly no look-up.
		if id++; int(id) >= len(m.tokens) || m.tokens[id] != string(joint) {
			var ok bool
			if id, ok = m.vocab[string(joint)]; !ok {
				return fmt.Errorf("merge %d makes %q, which is not in the vocabulary", rank, joint)
			}
		}
		// A pair listed twice keeps its last rank, as in tokenizers.
		*m.table.slot(pairKey(p.left, p.right)) = mergeSlot{pairKey(p.left, p.right), uint32(rank), id}
	}
	m.unkID = -1
	if m.hasUnk {
		if id, ok := m.vocab[m.unkToken]; ok {
			m.unkID = id
		}
	}
	for i := range m.fallback {
		m.fallback[i] = -1
		if id, ok := m.vocab[fmt.Sprintf("<0x%02X>", i)]; ok && m.byteFallback {
			m.fallback[i] = id
		}
	}
	m.charID = make(map[rune]int32)
	for i := range m.latinID {
		m.latinID[i], m.byteID[i] = -1, -1
	}
	for token, id := range m.vocab {
		r, size := utf8.DecodeRuneInString(token)
		if size == 0 || size != len(token) {
			continue
		}
		m.charID[r] = id
		if r < 256 {
			m.latinID[r] = id
		}
		if b, ok := byteOfChar(r); ok {
			m.byteID[b] = id
		}
	}
	if !byteMode {
		m.buildJoints()
	}
	return m.checkUnk()
}

// checkUnk refuses a model that names an unknown token it does not have and may
// need, where tokenizers fails at the first unknown character.
func (m *bpe) checkUnk() error {
	if !m.hasUnk || m.unkID >= 0 {
		return nil
	}
	if m.byteMode {
		complete := true
		for _, id := range m.byteID {
			complete = complete && id >= 0
		}
		if complete {
			return nil
		}
	}
	return fmt.Errorf("unk_token %q is not in the vocabulary", m.unkToken)
}

// buildJoints collects the pairs of characters over which a merge can reach.
// A merge of left and right joins the last character of left and the first of
// right, so text may be cut between two characters that no merge joins: the
// parts cannot influence each other. That turns one long SentencePiece text
// into words, and its cost from n log n to about n.
func (m *bpe) buildJoints() {
	joints := newMergeTable(len(m.merges))
	for _, p := range m.merges {
		left, right := m.tokens[p.left], m.tokens[p.right]
		if p.left == m.unkID || p.right == m.unkID || m.byteFallback && (isByteToken(left) || isByteToken(right)) {
			return // such a token does not spell its characters
		}
		l, _ := utf8.DecodeLastRuneInString(left)
		r, _ := utf8.DecodeRuneInString(right)
		lid, ok1 := m.charID[l]
		rid, ok2 := m.charID[r]
		if !ok1 || !ok2 {
			continue // no text makes these tokens
		}
		*joints.slot(pairKey(lid, rid)) = mergeSlot{key: pairKey(lid, rid)}
	}
	m.joints = &joints
}

func isByteToken(token string) bool {
	return len(token) == 6 && strings.HasPrefix(token, "<0x") && token[5] == '>'
}

// word encodes one piece and appends its tokens.
func (e *encoder) word(s string) {
	m := e.t.model
	if m.byteMode {
		e.cached(s, m.ignoreMerges)
		return
	}
	if m.ignoreMerges {
		if id, ok := m.vocab[s]; ok {
			e.dst = append(e.dst, id)
			return
		}
	}
	if m.joints == nil {
		e.merge(s)
		return
	}
	start, last := 0, int32(-1)
	for i, r := range s {
		id := m.char(r)
		if i > start && id >= 0 && last >= 0 {
			if rank, _ := m.joints.find(last, id); rank == noRank {
				e.cached(s[start:i], false)
				start = i
			}
		}
		last = id
	}
	e.cached(s[start:], false)
}

// cached encodes a word by way of the cache.
func (e *encoder) cached(s string, wholeWords bool) {
	if len(s) > maxCachedWord {
		e.uncached(s, wholeWords)
		return
	}
	slot, ids := e.t.cache.get(s)
	if ids != nil {
		e.dst = append(e.dst, ids...)
		return
	}
	n := len(e.dst)
	e.uncached(s, wholeWords)
	e.t.cache.put(slot, s, e.dst[n:])
}

func (e *encoder) uncached(s string, wholeWords bool) {
	if wholeWords {
		e.spelled = e.spelled[:0]
		for i := 0; i < len(s); i++ {
			e.spelled = utf8.AppendRune(e.spelled, byteLevelChar(s[i]))
		}
		if id, ok := e.t.model.vocab[string(e.spelled)]; ok {
			e.dst = append(e.dst, id)
			return
		}
	}
	e.merge(s)
}

// char gives the token of one character, -1 where there is none.
func (m *bpe) char(r rune) int32 {
	if r < 256 {
		return m.latinID[r]
	}
	if id, ok := m.charID[r]; ok {
		return id
	}
	return -1
}

// merge splits s into tokens of one character, or byte, and merges them.
func (e *encoder) merge(s string) {
	m := e.t.model
	n := len(e.dst)
	var unk pendingUnk
	if m.byteMode {
		for i := 0; i < len(s); i++ {
			id := m.byteID[s[i]]
			if id < 0 {
				e.unknown(&unk, string(byteLevelChar(s[i])))
				continue
			}
			e.flushUnk(&unk)
			e.dst = append(e.dst, id)
		}
	} else {
		for i, r := range s {
			id := m.char(r)
			if id < 0 {
				e.unknown(&unk, s[i:i+utf8.RuneLen(r)])
				continue
			}
			e.flushUnk(&unk)
			e.dst = append(e.dst, id)
		}
	}
	e.flushUnk(&unk)
	k := e.mergeAll(e.dst[n:])
	e.dst = e.dst[:n+k]
}

// pendingUnk is an unknown token that waits for more characters to fuse with.
type pendingUnk bool

func (e *encoder) flushUnk(unk *pendingUnk) {
	if *unk {
		e.dst = append(e.dst, e.t.model.unkID)
		*unk = false
	}
}

// unknown handles a character without a token: its bytes as tokens where all of
// them exist, else the unknown token. As in tokenizers, byte tokens do not flush
// a pending unknown token, and without an unknown token the character vanishes.
func (e *encoder) unknown(unk *pendingUnk, char string) {
	m := e.t.model
	if m.byteFallback {
		n := len(e.dst)
		for i := 0; i < len(char); i++ {
			id := m.fallback[char[i]]
			if id < 0 {
				e.dst = e.dst[:n]
				break
			}
			e.dst = append(e.dst, id)
		}
		if len(e.dst) > n {
			return
		}
	}
	if m.unkID < 0 {
		return
	}
	if !m.fuseUnk {
		e.flushUnk(unk)
	}
	*unk = true
}

var errTooManyIDs = errors.New("the largest id leaves too large a hole in the vocabulary")

// setVocab fills vocab and tokens from names[i] with id ids[i]. Ids may have
// holes, but no more than a vocabulary of that size can justify.
func (m *bpe) setVocab(names []string, ids []int32) error {
	largest := int32(-1)
	for _, id := range ids {
		largest = max(largest, id)
	}
	if int(largest) >= 16*len(ids)+65536 {
		return fmt.Errorf("id %d of %d tokens: %w", largest, len(ids), errTooManyIDs)
	}
	m.vocab = make(map[string]int32, len(names))
	m.tokens = make([]string, largest+1)
	for i, name := range names {
		m.vocab[name] = ids[i]
	}
	taken := make([]bool, largest+1)
	for name, id := range m.vocab {
		if taken[id] {
			return fmt.Errorf("tokens %q and %q have the same id %d", m.tokens[id], name, id)
		}
		taken[id] = true
		m.tokens[id] = name
	}
	return nil
}
