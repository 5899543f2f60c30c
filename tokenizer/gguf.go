package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// GGUF holds the tokenizer.ggml.* keys of a GGUF file.
type GGUF struct {
	Model  string    // tokenizer.ggml.model: "gpt2" or "llama"
	Pre    string    // .pre, the name of the pre-tokenizer of a gpt2 model; "" where absent
	Tokens []string  // .tokens
	Scores []float32 // .scores, for llama; one for each token
	Types  []int32   // .token_type, one for each token; may be nil (all normal)
	Merges []string  // .merges, for gpt2: "left right"

	// .bos_token_id, .eos_token_id, .unknown_token_id, .padding_token_id; -1 where
	// absent.
	BOS, EOS, UNK, PAD int
	// .add_bos_token, .add_eos_token, .add_space_prefix; nil where absent.
	AddBOS, AddEOS, AddSpacePrefix *bool
}

// Token types (llama.h, llama_token_type).
const (
	ggufNormal      = 1
	ggufUnknown     = 2
	ggufControl     = 3
	ggufUserDefined = 4
	ggufUnused      = 5
	ggufByte        = 6
)

// maxPieceBytes is the longest token that a llama model may have: more would make
// the search for its merges quadratic. SentencePiece's own limit is 16 characters.
const maxPieceBytes = 1024

// FromGGUF builds the tokenizer that the keys describe: the one the GGUF file was
// made from, as far as they tell. A gpt2 model becomes byte-level BPE with the
// Hugging Face pre-tokenizer that .pre stands for (and, for Qwen, its NFC
// normalizer, which .pre implies and llama.cpp leaves out). A llama model becomes
// SentencePiece-style BPE with byte fallback whose merges follow from the scores,
// as transformers converts such models (convert_slow_tokenizer.py,
// generate_merges).
func FromGGUF(g GGUF) (*Tokenizer, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("build the tokenizer of a GGUF file: %w", err)
	}
	var (
		t   *Tokenizer
		err error
	)
	switch g.Model {
	case "gpt2":
		t, err = g.byteLevel()
	case "llama":
		t, err = g.sentencePiece()
	default:
		err = &tensor.UnsupportedError{What: fmt.Sprintf("tokenizer.ggml.model %q", g.Model), Hint: "this module does gpt2 and llama"}
	}
	if err != nil {
		return nil, fmt.Errorf("build the tokenizer of a GGUF file: %w", err)
	}
	return t, nil
}

func ggufFormat(key, format string, args ...any) error {
	return &tensor.FormatError{Offset: -1, Field: "tokenizer.ggml." + key, Err: fmt.Errorf(format, args...)}
}

func (g *GGUF) check() error {
	n := len(g.Tokens)
	switch {
	case n == 0:
		return ggufFormat("tokens", "there are none")
	case n > math.MaxInt32:
		return ggufFormat("tokens", "there are %d, more than ids", n)
	case g.Types != nil && len(g.Types) != n:
		return ggufFormat("token_type", "%d types for %d tokens", len(g.Types), n)
	}
	seen := make(map[string]int, n)
	for i, s := range g.Tokens {
		if !utf8.ValidString(s) {
			return ggufFormat("tokens", "token %d is not valid UTF-8", i)
		}
		if j, ok := seen[s]; ok {
			return ggufFormat("tokens", "tokens %d and %d are both %q", j, i, s)
		}
		seen[s] = i
	}
	for _, id := range []struct {
		key string
		id  int
	}{{"bos_token_id", g.BOS}, {"eos_token_id", g.EOS}, {"unknown_token_id", g.UNK}} {
		if id.id >= n {
			return ggufFormat(id.key, "%d is not below the %d tokens", id.id, n)
		}
	}
	return nil
}

func (g *GGUF) kind(i int) int32 {
	if g.Types == nil {
		return ggufNormal
	}
	return g.Types[i]
}

// vocabulary gives the model its tokens and lists the added ones. As in the
// tokenizer.json of the big models, added tokens and padding behind the last
// normal token are not in the model's vocabulary, where that keeps their ids;
// padding there is dropped.
func (g *GGUF) vocabulary(m *bpe) ([]AddedToken, error) {
	last := 0 // one more than the last token that is the model's own
	tail := 0 // one more than the last token of any use
	for i := range g.Tokens {
		switch g.kind(i) {
		case ggufNormal, ggufUnknown, ggufByte:
			last, tail = i+1, i+1
		case ggufControl, ggufUserDefined:
			tail = i + 1
		case ggufUnused:
		default:
			return nil, ggufFormat("token_type", "token %d has the unknown type %d", i, g.kind(i))
		}
	}
	for i := last; i < tail; i++ {
		if k := g.kind(i); k != ggufControl && k != ggufUserDefined || g.Tokens[i] == "" {
			last = tail // a hole among the added tokens: keep all in the vocabulary
			break
		}
	}
	var added []AddedToken
	for i, s := range g.Tokens[:tail] {
		switch g.kind(i) {
		case ggufControl, ggufUnknown: // llama.cpp, too, keeps text from spelling either
			added = append(added, AddedToken{Content: s, Special: true})
		case ggufUserDefined:
			added = append(added, AddedToken{Content: s})
		}
	}
	ids := make([]int32, last)
	for i := range ids {
		ids[i] = int32(i)
	}
	return added, m.setVocab(g.Tokens[:last], ids)
}

// template gives TemplateProcessing with BOS and EOS, "" where neither is added.
func (g *GGUF) template(addBOS, addEOS bool) (string, error) {
	if g.AddBOS != nil {
		addBOS = *g.AddBOS
	}
	if g.AddEOS != nil {
		addEOS = *g.AddEOS
	}
	if !addBOS && !addEOS {
		return "", nil
	}
	var a, b, special []string
	piece := func(id int, key string) error {
		if id < 0 {
			return ggufFormat(key, "the tokenizer adds this token, but the key is missing")
		}
		name := string(appendJSONString(nil, g.Tokens[id]))
		a = append(a, fmt.Sprintf(`{"SpecialToken":{"id":%s,"type_id":0}}`, name))
		b = append(b, fmt.Sprintf(`{"SpecialToken":{"id":%s,"type_id":1}}`, name))
		if len(special) == 0 || g.BOS != g.EOS {
			special = append(special, fmt.Sprintf(`%s:{"id":%s,"ids":[%d],"tokens":[%s]}`, name, name, id, name))
		}
		return nil
	}
	if addBOS {
		if err := piece(g.BOS, "bos_token_id"); err != nil {
			return "", err
		}
	}
	a = append(a, `{"Sequence":{"id":"A","type_id":0}}`)
	b = append(b, `{"Sequence":{"id":"B","type_id":1}}`)
	if addEOS {
		if err := piece(g.EOS, "eos_token_id"); err != nil {
			return "", err
		}
	}
	single := strings.Join(a, ",")
	return fmt.Sprintf(`{"type":"TemplateProcessing","single":[%s],"pair":[%s,%s],"special_tokens":{%s}}`,
		single, single, strings.Join(b, ","), strings.Join(special, ",")), nil
}

// byteLevel builds a gpt2 model.
func (g *GGUF) byteLevel() (*Tokenizer, error) {
	pre, ok := findPre(g.Pre)
	if !ok {
		return nil, &tensor.UnsupportedError{
			What: fmt.Sprintf("tokenizer.ggml.pre %q", g.Pre),
			Hint: "this module does not know that pre-tokenizer; convert from the Hugging Face folder instead",
		}
	}
	m := &bpe{ignoreMerges: pre.ignoreMerges}
	added, err := g.vocabulary(m)
	if err != nil {
		return nil, err
	}
	if len(g.Merges) == 0 {
		return nil, ggufFormat("merges", "there are none")
	}
	m.merges = make([]merge, 0, len(g.Merges))
	for i, s := range g.Merges {
		left, right, ok := strings.Cut(s, " ")
		l, ok1 := m.vocab[left]
		r, ok2 := m.vocab[right]
		if !ok || !ok1 || !ok2 {
			return nil, ggufFormat("merges", "merge %d, %q, is not of two tokens with a space between", i, s)
		}
		m.merges = append(m.merges, merge{l, r})
	}
	template, err := g.template(pre.addBOS, false)
	if err != nil {
		return nil, err
	}
	c := config{
		added:         added,
		preTokenizer:  pre.json(),
		postProcessor: []byte(template),
		decoder:       []byte(`{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`),
	}
	if pre.nfc {
		c.normalizer = []byte(`{"type":"NFC"}`)
	}
	return build(c, m)
}

// sentencePiece builds a llama model.
func (g *GGUF) sentencePiece() (*Tokenizer, error) {
	if len(g.Scores) != len(g.Tokens) {
		return nil, ggufFormat("scores", "%d scores for %d tokens", len(g.Scores), len(g.Tokens))
	}
	// Defaults of llama.cpp, llama-vocab.cpp.
	setDefault := func(id *int, value int) {
		if *id < 0 && value < len(g.Tokens) {
			*id = value
		}
	}
	setDefault(&g.BOS, 1)
	setDefault(&g.EOS, 2)
	setDefault(&g.UNK, 0)
	m := &bpe{byteFallback: true, fuseUnk: true}
	added, err := g.vocabulary(m)
	if err != nil {
		return nil, err
	}
	if g.UNK >= 0 {
		m.unkToken, m.hasUnk = g.Tokens[g.UNK], true
	}
	if m.merges, err = g.mergesFromScores(m.vocab); err != nil {
		return nil, err
	}
	template, err := g.template(true, false)
	if err != nil {
		return nil, err
	}
	prefix := g.AddSpacePrefix == nil || *g.AddSpacePrefix
	replace := `{"type":"Replace","pattern":{"String":" "},"content":"▁"}`
	decoders := `{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}`
	if prefix {
		replace = `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},` + replace + `]}`
		decoders += `,{"type":"Strip","content":" ","start":1,"stop":0}`
	}
	return build(config{
		added:         added,
		normalizer:    []byte(replace),
		postProcessor: []byte(template),
		decoder:       []byte(`{"type":"Sequence","decoders":[` + decoders + `]}`),
	}, m)
}

// mergesFromScores lists, for each token that text can make, all ways to put it
// together from two others: best score first, then smallest id, then the longest
// left part.
func (g *GGUF) mergesFromScores(vocab map[string]int32) ([]merge, error) {
	type candidate struct {
		merge
		id    int32 // of the result
		score float32
		left  int // bytes of the left part
	}
	var list []candidate
	for i, s := range g.Tokens {
		if k := g.kind(i); k != ggufNormal && k != ggufUserDefined {
			continue
		}
		if len(s) > maxPieceBytes {
			return nil, ggufFormat("tokens", "token %d has %d bytes, more than %d", i, len(s), maxPieceBytes)
		}
		if g.Scores[i] != g.Scores[i] {
			return nil, ggufFormat("scores", "the score of token %d is not a number", i)
		}
		for cut := range s {
			l, ok1 := vocab[s[:cut]]
			r, ok2 := vocab[s[cut:]]
			if cut > 0 && ok1 && ok2 {
				list = append(list, candidate{merge{l, r}, int32(i), g.Scores[i], cut})
			}
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		switch {
		case a.score != b.score:
			return a.score > b.score
		case a.id != b.id:
			return a.id < b.id
		}
		return a.left > b.left
	})
	merges := make([]merge, len(list))
	for i, c := range list {
		merges[i] = c.merge
	}
	if len(merges) == 0 {
		return nil, ggufFormat("tokens", "no token is made of two others: %w", errNoMerges)
	}
	return merges, nil
}

var errNoMerges = errors.New("not a SentencePiece BPE vocabulary")
