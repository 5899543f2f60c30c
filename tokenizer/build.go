package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// build makes a tokenizer of the parts of a tokenizer.json. Each part is a JSON
// object with a "type"; the functions below have a case for each type known.
func build(c config, m *bpe) (*Tokenizer, error) {
	t := &Tokenizer{config: c, model: m, cache: newWordCache()}
	fail := func(part string, err error) (*Tokenizer, error) {
		var unsupported *tensor.UnsupportedError
		if errors.As(err, &unsupported) {
			return nil, err
		}
		return nil, &tensor.FormatError{Offset: -1, Field: part, Err: err}
	}
	list, err := t.normalizers(nil, c.normalizer, 0)
	if err != nil {
		return fail("normalizer", err)
	}
	t.normalize = chain(list)
	if err := t.preTokenizers(c.preTokenizer, 0); err != nil {
		return fail("pre_tokenizer", err)
	}
	byteMode := false
	if n := len(t.stages); n > 0 {
		// A ByteLevel that is last needs no stage: the model works on bytes.
		if _, byteMode = t.stages[n-1].(byteLevelStage); byteMode {
			t.stages = t.stages[:n-1]
		}
	}
	if err := m.finish(byteMode); err != nil {
		return fail("model", err)
	}
	if err := t.postProcessor(c.postProcessor, 0); err != nil {
		return fail("post_processor", err)
	}
	if t.template == nil {
		t.template = []int32{templateText}
	}
	if err := t.decoder(c.decoder, 0); err != nil {
		return fail("decoder", err)
	}
	if err := checkPadding(c.padding); err != nil {
		return fail("padding", err)
	}
	normalize := t.normalize
	if normalize == nil {
		normalize = func(s string) string { return s }
	}
	t.added = newAddedVocab(c.added, m, normalize)
	t.size = len(m.tokens)
	for _, a := range t.added.list {
		t.size = max(t.size, int(a.ID)+1)
	}
	t.encoders.New = func() any { return &encoder{t: t} }
	return t, nil
}

// partType is the member that all parts have.
type partType struct {
	Type string `json:"type"`
}

// kind gives the type of a part, "" for null.
func kind(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var p partType
	if err := json.Unmarshal(raw, &p); err != nil {
		return "", err
	}
	if p.Type == "" {
		return "", errors.New(`there is no "type"`)
	}
	return p.Type, nil
}

// maxPartDepth bounds Sequences within Sequences.
const maxPartDepth = 8

var errPartDepth = fmt.Errorf("a Sequence nested more than %d deep", maxPartDepth)

// pattern is the pattern of Split and Replace: {"String": s} or {"Regex": s}.
type pattern struct {
	String *string
	Regex  *string
}

func (p pattern) matcher() (matcher, error) {
	switch {
	case p.String != nil && p.Regex == nil:
		if *p.String == "" {
			return nil, &tensor.UnsupportedError{What: "an empty pattern in the tokenizer"}
		}
		return literalMatcher(*p.String), nil
	case p.Regex != nil && p.String == nil:
		if sc := newScanner(*p.Regex); sc != nil {
			return scanMatcher{sc}, nil
		}
		return newRegexMatcher(*p.Regex)
	}
	return nil, errors.New("a pattern is neither a String nor a Regex")
}

func (t *Tokenizer) normalizers(list []normalizer, raw json.RawMessage, depth int) ([]normalizer, error) {
	name, err := kind(raw)
	if err != nil || name == "" {
		return list, err
	}
	if depth > maxPartDepth {
		return nil, errPartDepth
	}
	what := "the normalizer " + name
	switch name {
	case "Sequence":
		var p struct {
			partType
			Normalizers []json.RawMessage
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return nil, err
		}
		for _, one := range p.Normalizers {
			if list, err = t.normalizers(list, one, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case "NFC", "NFD", "NFKC", "NFKD":
		form, _ := newUnicodeForm(name)
		return append(list, form.normalize), strictJSON(raw, &partType{}, what)
	case "Lowercase":
		return append(list, lowercase), strictJSON(raw, &partType{}, what)
	case "ByteLevel":
		return append(list, toByteLevel), strictJSON(raw, &partType{}, what)
	case "Prepend":
		var p struct {
			partType
			Prepend string
		}
		err := strictJSON(raw, &p, what)
		return append(list, prependText(p.Prepend)), err
	case "Strip":
		var p struct {
			partType
			StripLeft  bool `json:"strip_left"`
			StripRight bool `json:"strip_right"`
		}
		err := strictJSON(raw, &p, what)
		t.config.stripsLeft = t.config.stripsLeft || p.StripLeft
		return append(list, stripSpace(p.StripLeft, p.StripRight)), err
	case "Replace":
		var p struct {
			partType
			Pattern pattern
			Content string
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return nil, err
		}
		m, err := p.Pattern.matcher()
		if err != nil {
			return nil, err
		}
		return append(list, replaceMatches(m, p.Content)), nil
	}
	return nil, &tensor.UnsupportedError{What: what}
}

// preTokenizers appends the stages of raw to t.stages.
func (t *Tokenizer) preTokenizers(raw json.RawMessage, depth int) error {
	name, err := kind(raw)
	if err != nil || name == "" {
		return err
	}
	if depth > maxPartDepth {
		return errPartDepth
	}
	what := "the pre-tokenizer " + name
	add := func(st stage) { t.stages = append(t.stages, st) }
	switch name {
	case "Sequence":
		var p struct {
			partType
			Pretokenizers []json.RawMessage
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		for _, one := range p.Pretokenizers {
			if err := t.preTokenizers(one, depth+1); err != nil {
				return err
			}
		}
	case "Split":
		return t.addSplit(raw, what)
	case "ByteLevel":
		p := byteLevelJSON{UseRegex: true}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		if p.AddPrefixSpace {
			add(prefixStage{})
		}
		if p.UseRegex {
			add(scanStage{newScanner(gpt2Pattern)})
		}
		add(byteLevelStage{})
	case "Digits":
		var p struct {
			partType
			IndividualDigits bool `json:"individual_digits"`
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		st := splitStage{matcher: runeMatcher(isNumeric), behavior: contiguous}
		if p.IndividualDigits {
			st.behavior = isolated
		}
		add(st)
	case "Punctuation":
		p := struct {
			partType
			Behavior behavior
		}{Behavior: isolated}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		if err := p.Behavior.check(); err != nil {
			return err
		}
		add(splitStage{matcher: runeMatcher(isPunctuation), behavior: p.Behavior})
	case "Whitespace":
		add(splitStage{matcher: wordMatcher{}, behavior: removed, invert: true})
		return strictJSON(raw, &partType{}, what)
	case "WhitespaceSplit":
		add(splitStage{matcher: runeMatcher(unicode.IsSpace), behavior: removed})
		return strictJSON(raw, &partType{}, what)
	case "Metaspace":
		p, err := parseMetaspace(raw, what)
		if err != nil {
			return err
		}
		mark, _ := utf8.DecodeRuneInString(p.Replacement)
		add(metaspaceStage{mark, p.PrependScheme, p.Split == nil || *p.Split})
	default:
		return &tensor.UnsupportedError{What: what}
	}
	return nil
}

func (b behavior) check() error {
	switch b {
	case isolated, removed, mergedWithPrevious, mergedWithNext, contiguous:
		return nil
	}
	return fmt.Errorf("unknown behavior %q", string(b))
}

func (t *Tokenizer) addSplit(raw json.RawMessage, what string) error {
	var p struct {
		partType
		Pattern  pattern
		Behavior behavior
		Invert   bool
	}
	if err := strictJSON(raw, &p, what); err != nil {
		return err
	}
	if err := p.Behavior.check(); err != nil {
		return err
	}
	m, err := p.Pattern.matcher()
	if err != nil {
		return err
	}
	if sc, ok := m.(scanMatcher); ok && p.Behavior == isolated {
		t.stages = append(t.stages, scanStage(sc))
		return nil
	}
	t.stages = append(t.stages, splitStage{m, p.Behavior, p.Invert})
	return nil
}

// byteLevelJSON is ByteLevel as a pre-tokenizer, decoder or post-processor; the
// last two use none of its members but for offsets, which this package has not.
type byteLevelJSON struct {
	partType
	AddPrefixSpace bool `json:"add_prefix_space"`
	TrimOffsets    bool `json:"trim_offsets"`
	UseRegex       bool `json:"use_regex"`
}

// metaspaceJSON is Metaspace; str_rep is written by old versions and unused.
type metaspaceJSON struct {
	partType
	Replacement    string
	StrRep         *string `json:"str_rep"`
	AddPrefixSpace *bool   `json:"add_prefix_space"`
	PrependScheme  string  `json:"prepend_scheme"`
	Split          *bool
}

func parseMetaspace(raw json.RawMessage, what string) (metaspaceJSON, error) {
	p := metaspaceJSON{PrependScheme: "always"}
	if err := strictJSON(raw, &p, what); err != nil {
		return p, err
	}
	if utf8.RuneCountInString(p.Replacement) != 1 {
		return p, fmt.Errorf("replacement %q is not one character", p.Replacement)
	}
	switch p.PrependScheme {
	case "always", "first", "never":
	default:
		return p, fmt.Errorf("unknown prepend_scheme %q", p.PrependScheme)
	}
	if p.AddPrefixSpace != nil && !*p.AddPrefixSpace {
		if p.PrependScheme != "never" {
			return p, errors.New("add_prefix_space does not match prepend_scheme")
		}
	}
	return p, nil
}

// postProcessor fills t.template.
func (t *Tokenizer) postProcessor(raw json.RawMessage, depth int) error {
	name, err := kind(raw)
	if err != nil || name == "" {
		return err
	}
	if depth > maxPartDepth {
		return errPartDepth
	}
	what := "the post-processor " + name
	if t.template != nil && name != "ByteLevel" && name != "Sequence" {
		return &tensor.UnsupportedError{What: what + " behind another that adds tokens"}
	}
	switch name {
	case "Sequence":
		var p struct {
			partType
			Processors []json.RawMessage
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		for _, one := range p.Processors {
			if err := t.postProcessor(one, depth+1); err != nil {
				return err
			}
		}
	case "ByteLevel":
		return strictJSON(raw, &byteLevelJSON{}, what)
	case "TemplateProcessing":
		return t.parseTemplate(raw, what)
	case "BertProcessing", "RobertaProcessing":
		var p struct {
			partType
			Sep, Cls       [2]any
			TrimOffsets    bool `json:"trim_offsets"`
			AddPrefixSpace bool `json:"add_prefix_space"`
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		cls, ok1 := p.Cls[1].(float64)
		sep, ok2 := p.Sep[1].(float64)
		if !ok1 || !ok2 || cls != float64(int32(cls)) || sep != float64(int32(sep)) || cls < 0 || sep < 0 {
			return errors.New("cls and sep are not pairs of token and id")
		}
		t.template = []int32{int32(cls), templateText, int32(sep)}
	default:
		return &tensor.UnsupportedError{What: what}
	}
	return nil
}

func (t *Tokenizer) parseTemplate(raw json.RawMessage, what string) error {
	type piece struct {
		SpecialToken *struct {
			ID     string
			TypeID int `json:"type_id"`
		}
		Sequence *struct {
			ID     string
			TypeID int `json:"type_id"`
		}
	}
	var p struct {
		partType
		Single        []piece
		Pair          json.RawMessage // for two texts, which this package does not encode
		SpecialTokens map[string]struct {
			ID     string
			IDs    []int32
			Tokens []string
		} `json:"special_tokens"`
	}
	if err := strictJSON(raw, &p, what); err != nil {
		return err
	}
	t.template = []int32{}
	for _, one := range p.Single {
		switch {
		case one.SpecialToken != nil:
			tok, ok := p.SpecialTokens[one.SpecialToken.ID]
			if !ok {
				return fmt.Errorf("the template's token %q is not in special_tokens", one.SpecialToken.ID)
			}
			for _, id := range tok.IDs {
				if id < 0 {
					return fmt.Errorf("the template's token %q has the id %d", one.SpecialToken.ID, id)
				}
			}
			t.template = append(t.template, tok.IDs...)
		case one.Sequence != nil && one.Sequence.ID == "A":
			t.template = append(t.template, templateText)
		default:
			return errors.New("a piece of the template is neither a token nor the text A")
		}
	}
	return nil
}

// checkPadding refuses padding that would change a single text.
func checkPadding(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var p struct {
		Strategy      any
		PadToMultiple *int `json:"pad_to_multiple_of"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	if p.Strategy != "BatchLongest" || p.PadToMultiple != nil {
		return &tensor.UnsupportedError{What: "padding to a fixed length in tokenizer.json", Hint: "set it to null"}
	}
	return nil
}

// decoder appends the stages of raw to t.decoders.
func (t *Tokenizer) decoder(raw json.RawMessage, depth int) error {
	name, err := kind(raw)
	if err != nil {
		return err
	}
	if depth > maxPartDepth {
		return errPartDepth
	}
	what := "the decoder " + name
	d := &t.decoders
	switch name {
	case "":
		if depth == 0 {
			d.separator = " "
		}
	case "Sequence":
		var p struct {
			partType
			Decoders []json.RawMessage
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		for _, one := range p.Decoders {
			if err := t.decoder(one, depth+1); err != nil {
				return err
			}
		}
	case "ByteLevel":
		d.add(byteLevelDecoder, true)
		return strictJSON(raw, &byteLevelJSON{}, what)
	case "ByteFallback":
		d.add(byteFallbackDecoder, false)
		return strictJSON(raw, &partType{}, what)
	case "Fuse":
		d.add(fuseDecoder, true)
		return strictJSON(raw, &partType{}, what)
	case "Metaspace":
		p, err := parseMetaspace(raw, what)
		if err != nil {
			return err
		}
		d.add(metaspaceDecoder(p.Replacement, p.PrependScheme != "never"), false)
	case "Strip":
		var p struct {
			partType
			Content     string
			Start, Stop int
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		if utf8.RuneCountInString(p.Content) != 1 || p.Start < 0 || p.Stop < 0 {
			return errors.New("a Strip wants one character and two counts")
		}
		mark, _ := utf8.DecodeRuneInString(p.Content)
		d.add(stripDecoder(mark, p.Start, p.Stop), false)
	case "Replace":
		var p struct {
			partType
			Pattern pattern
			Content string
		}
		if err := strictJSON(raw, &p, what); err != nil {
			return err
		}
		m, err := p.Pattern.matcher()
		if err != nil {
			return err
		}
		d.add(replaceDecoder(m, p.Content), false)
	default:
		return &tensor.UnsupportedError{What: what}
	}
	return nil
}
