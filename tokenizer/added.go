package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// AddedToken is a token that is looked for in the text before anything else.
type AddedToken struct {
	ID      int32
	Content string
	// SingleWord: only where no word character stands before or behind.
	SingleWord bool
	// LStrip, RStrip: the white space before, behind belongs to the token.
	LStrip, RStrip bool
	// Normalized: the token's normalized form is looked for in normalized text.
	Normalized bool
	// Special: a control token, left out by decoding with skipSpecial.
	Special bool
}

// addedVocab is the set of added tokens (tokenizers added_vocabulary.rs).
type addedVocab struct {
	list    []AddedToken // in order of id
	byID    map[int32]*AddedToken
	byText  map[string]int32
	special map[string]bool  // contents
	decoded map[int32]string // normalized forms that differ from the content

	raw, normalized tokenTrie
}

// newAddedVocab gives ids to tokens, in the order of the file: the id that the
// content has already, here or in the model, else the next free one. The ids
// that a file states do not count, as in tokenizers.
func newAddedVocab(tokens []AddedToken, m *bpe, normalize func(string) string) *addedVocab {
	v := &addedVocab{byID: map[int32]*AddedToken{}, byText: map[string]int32{}, special: map[string]bool{}, decoded: map[int32]string{}}
	next := int32(len(m.vocab))
	for _, a := range tokens {
		if a.Content == "" {
			continue
		}
		id, ok := v.byText[a.Content]
		if !ok {
			if id, ok = m.vocab[a.Content]; !ok {
				id = next
				next++
			}
		}
		a.ID = id
		v.byText[a.Content] = id
		v.byID[id] = &a
		if a.Special {
			v.special[a.Content] = true
		}
	}
	for id := range v.byID {
		v.list = append(v.list, *v.byID[id])
	}
	sortAdded(v.list)
	for _, a := range v.list {
		if !a.Normalized {
			v.raw.add(a.Content, a.ID)
			continue
		}
		form := normalize(a.Content)
		if form != a.Content {
			v.decoded[a.ID] = form
		}
		v.normalized.add(form, a.ID)
	}
	return v
}

// token gives the string that decoding starts from.
func (v *addedVocab) token(id int32) (string, bool) {
	a, ok := v.byID[id]
	if !ok {
		return "", false
	}
	if form, ok := v.decoded[id]; ok {
		return form, true
	}
	return a.Content, true
}

// cut calls text for each part of s without an added token of trie and adds the
// token ids between them to e.dst. With parseSpecial false a special token is
// passed over, and nothing else is found within its text.
func (e *encoder) cut(trie *tokenTrie, s string, text func(e *encoder, s string, first bool), first bool) {
	start, from := 0, 0
	for {
		at, end, id := trie.find(s, from)
		if id < 0 {
			break
		}
		from = end
		a := e.t.added.byID[id]
		if a.Special && !e.parseSpecial || a.SingleWord && !singleWord(s, at, end) {
			continue
		}
		if a.LStrip {
			at = max(len(strings.TrimRightFunc(s[:at], unicode.IsSpace)), start)
		}
		if a.RStrip {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
		}
		if start < at {
			text(e, s[start:at], first && start == 0)
		}
		e.dst = append(e.dst, id)
		start = end
	}
	if start < len(s) {
		text(e, s[start:], first && start == 0)
	}
}

func singleWord(s string, at, end int) bool {
	if at > 0 {
		if r, _ := utf8.DecodeLastRuneInString(s[:at]); isWord(r) {
			return false
		}
	}
	if end < len(s) {
		if r, _ := utf8.DecodeRuneInString(s[end:]); isWord(r) {
			return false
		}
	}
	return true
}

// tokenTrie finds tokens in text, leftmost first and the longest of those.
type tokenTrie struct {
	nodes []trieNode // nodes[0] is the root; empty where there are no tokens
	first [256]bool  // bytes that tokens begin with
	only  int        // the one such byte, -1 where there are several
}

type trieNode struct {
	labels   []byte
	children []int32
	id       int32 // -1 where no token ends here
}

func (t *tokenTrie) add(token string, id int32) {
	if token == "" {
		return
	}
	if t.nodes == nil {
		t.nodes = []trieNode{{id: -1}}
		t.only = int(token[0])
	}
	t.first[token[0]] = true
	if t.only != int(token[0]) {
		t.only = -1
	}
	at := int32(0)
	for i := 0; i < len(token); i++ {
		child := t.child(at, token[i])
		if child < 0 {
			child = int32(len(t.nodes))
			t.nodes = append(t.nodes, trieNode{id: -1})
			n := &t.nodes[at]
			n.labels = append(n.labels, token[i])
			n.children = append(n.children, child)
		}
		at = child
	}
	if t.nodes[at].id < 0 {
		t.nodes[at].id = id
	}
}

func (t *tokenTrie) child(at int32, c byte) int32 {
	n := &t.nodes[at]
	for i, l := range n.labels {
		if l == c {
			return n.children[i]
		}
	}
	return -1
}

// find gives place and id of the first token at or after from, id -1 where there
// is none.
func (t *tokenTrie) find(s string, from int) (start, end int, id int32) {
	if t.nodes == nil {
		return 0, 0, -1
	}
	for i := from; i < len(s); i++ {
		if t.only >= 0 {
			k := strings.IndexByte(s[i:], byte(t.only))
			if k < 0 {
				return 0, 0, -1
			}
			i += k
		} else if !t.first[s[i]] {
			continue
		}
		id, end = -1, 0
		at := int32(0)
		for j := i; j < len(s); j++ {
			if at = t.child(at, s[j]); at < 0 {
				break
			}
			if t.nodes[at].id >= 0 {
				id, end = t.nodes[at].id, j+1
			}
		}
		if id >= 0 {
			return i, end, id
		}
	}
	return 0, 0, -1
}
