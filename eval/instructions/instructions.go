package instructions

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Args are the arguments of an instruction, in IFEval's spelling. Each kind
// reads some of them.
type Args struct {
	Relation        string   `json:"relation,omitempty"` // "less than", "at least"
	NumWords        int      `json:"num_words,omitempty"`
	NumSentences    int      `json:"num_sentences,omitempty"`
	NumParagraphs   int      `json:"num_paragraphs,omitempty"`
	NthParagraph    int      `json:"nth_paragraph,omitempty"`
	FirstWord       string   `json:"first_word,omitempty"`
	NumPlaceholders int      `json:"num_placeholders,omitempty"`
	NumBullets      int      `json:"num_bullets,omitempty"`
	NumHighlights   int      `json:"num_highlights,omitempty"`
	NumSections     int      `json:"num_sections,omitempty"`
	SectionSplitter string   `json:"section_spliter,omitempty"`
	Postscript      string   `json:"postscript_marker,omitempty"`
	Keywords        []string `json:"keywords,omitempty"`
	Keyword         string   `json:"keyword,omitempty"`
	Frequency       int      `json:"frequency,omitempty"`
	Forbidden       []string `json:"forbidden_words,omitempty"`
	Letter          string   `json:"letter,omitempty"`
	LetterFrequency int      `json:"let_frequency,omitempty"`
	LetterRelation  string   `json:"let_relation,omitempty"`
	Language        string   `json:"language,omitempty"` // ISO 639-1
	EndPhrase       string   `json:"end_phrase,omitempty"`
	RepeatPrompt    string   `json:"prompt_to_repeat,omitempty"`
	CapitalWords    int      `json:"capital_frequency,omitempty"`
	CapitalRelation string   `json:"capital_relation,omitempty"`
}

// Instruction is one instruction with its arguments. The zero value is none;
// New makes one.
type Instruction struct {
	ID   string // "punctuation:no_comma"
	Args Args

	check func(response string) bool
}

// kinds maps an instruction's id to what makes its check; the second function
// of a kind tells the argument that lacks, if any.
var kinds = map[string]func(Args) (func(string) bool, error){
	"keywords:existence":                            keywordsExist,
	"keywords:frequency":                            keywordFrequency,
	"keywords:forbidden_words":                      forbiddenWords,
	"keywords:letter_frequency":                     letterFrequency,
	"language:response_language":                    responseLanguage,
	"length_constraints:number_sentences":           numberSentences,
	"length_constraints:number_paragraphs":          numberParagraphs,
	"length_constraints:number_words":               numberWords,
	"length_constraints:nth_paragraph_first_word":   nthParagraph,
	"detectable_content:number_placeholders":        placeholders,
	"detectable_content:postscript":                 postscript,
	"detectable_format:number_bullet_lists":         bullets,
	"detectable_format:constrained_response":        fixed(constrained),
	"detectable_format:number_highlighted_sections": highlights,
	"detectable_format:multiple_sections":           sections,
	"detectable_format:json_format":                 fixed(isJSON),
	"detectable_format:title":                       fixed(hasTitle),
	"combination:two_responses":                     fixed(twoResponses),
	"combination:repeat_prompt":                     repeatPrompt,
	"startend:end_checker":                          endPhrase,
	"startend:quotation":                            fixed(quoted),
	"change_case:capital_word_frequency":            capitalWords,
	"change_case:english_capital":                   fixed(englishCapital),
	"change_case:english_lowercase":                 fixed(englishLowercase),
	"punctuation:no_comma":                          fixed(noComma),
}

func fixed(check func(string) bool) func(Args) (func(string) bool, error) {
	return func(Args) (func(string) bool, error) { return check, nil }
}

// Kinds lists the ids of all kinds, sorted.
func Kinds() []string {
	ids := make([]string, 0, len(kinds))
	for id := range kinds {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// New makes the instruction id. An unknown id or an argument that the kind
// needs and that is missing or out of range is an error.
func New(id string, args Args) (Instruction, error) {
	kind, ok := kinds[id]
	if !ok {
		return Instruction{}, fmt.Errorf("unknown instruction %q; known are %s", id, strings.Join(Kinds(), ", "))
	}
	check, err := kind(args)
	if err != nil {
		return Instruction{}, fmt.Errorf("instruction %s: %w", id, err)
	}
	return Instruction{ID: id, Args: args, check: check}, nil
}

// Follows says whether response follows the instruction, strictly. An empty
// response follows none.
func (i Instruction) Follows(response string) bool {
	return i.check != nil && trim(response) != "" && i.check(response)
}

// FollowsLoosely says whether response, or response without its first line, its
// last line, both, or any of these without asterisks, follows the instruction:
// so that an introduction, a closing line or markdown does no harm.
func (i Instruction) FollowsLoosely(response string) bool {
	lines := strings.Split(response, "\n")
	join := func(l []string) string { return trim(strings.Join(l, "\n")) }
	texts := []string{response, join(lines[1:]), join(lines[:len(lines)-1])}
	if len(lines) > 1 {
		texts = append(texts, join(lines[1:len(lines)-1]))
	}
	for _, t := range texts {
		if i.Follows(t) || i.Follows(strings.ReplaceAll(t, "*", "")) {
			return true
		}
	}
	return false
}

// Judge gives the strict and the loose verdict on each instruction.
func Judge(list []Instruction, response string) (strict, loose []bool) {
	strict, loose = make([]bool, len(list)), make([]bool, len(list))
	for n, i := range list {
		strict[n], loose[n] = i.Follows(response), i.FollowsLoosely(response)
	}
	return strict, loose
}

// instructionJSON is the form of an Instruction in JSON.
type instructionJSON struct {
	ID   string `json:"id"`
	Args Args   `json:"args"`
}

// MarshalJSON writes id and arguments.
func (i Instruction) MarshalJSON() ([]byte, error) {
	return json.Marshal(instructionJSON{i.ID, i.Args})
}

// UnmarshalJSON reads what MarshalJSON wrote, and checks as New does.
func (i *Instruction) UnmarshalJSON(data []byte) error {
	var j instructionJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	made, err := New(j.ID, j.Args)
	if err != nil {
		return err
	}
	*i = made
	return nil
}
