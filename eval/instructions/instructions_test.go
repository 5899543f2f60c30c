package instructions

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewRefuses(t *testing.T) {
	for id := range kinds {
		_, err := New(id, Args{})
		switch id {
		case "detectable_format:constrained_response", "detectable_format:json_format", "detectable_format:title",
			"combination:two_responses", "startend:quotation", "change_case:english_capital",
			"change_case:english_lowercase", "punctuation:no_comma":
			if err != nil {
				t.Errorf("%s needs no arguments: %v", id, err)
			}
		default:
			if err == nil || !strings.Contains(err.Error(), id) {
				t.Errorf("%s without arguments: %v", id, err)
			}
		}
	}
	for _, c := range []struct {
		id   string
		args Args
		want string
	}{
		{"punctuation:no_colon", Args{}, "known are"},
		{"length_constraints:number_words", Args{NumWords: 5, Relation: "at most"}, `"at most"`},
		{"length_constraints:number_words", Args{NumWords: -5, Relation: "at least"}, "-5"},
		{"length_constraints:nth_paragraph_first_word", Args{NumParagraphs: 2, NthParagraph: 3, FirstWord: "a"}, "3 of 2"},
		{"keywords:letter_frequency", Args{Letter: "ab", LetterFrequency: 1, LetterRelation: "at least"}, `"ab"`},
		{"keywords:forbidden_words", Args{Forbidden: []string{""}}, "empty"},
		{"language:response_language", Args{Language: "tlh"}, `"tlh"`},
	} {
		if _, err := New(c.id, c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want %s", c.id, c.args, err, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	in, err := New("keywords:frequency", Args{Keyword: "a.b(", Frequency: 2, Relation: "at least"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var back Instruction
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]any{in.ID, in.Args}, []any{back.ID, back.Args}); d != "" {
		t.Error(d)
	}
	// No regular expression, so it stands for itself.
	if !back.Follows("a.b( A.B(") || back.Follows("a.b( axb(") {
		t.Error("the keyword is not taken literally")
	}
	if err := json.Unmarshal([]byte(`{"id":"keywords:frequency","args":{}}`), &back); err == nil {
		t.Error("no error without arguments")
	}
	if (Instruction{}).Follows("text") {
		t.Error("the zero instruction is followed")
	}
}

// FuzzJudge: no text makes a check panic or run long, and what is followed
// strictly is followed loosely.
func FuzzJudge(f *testing.F) {
	for _, s := range []string{
		"", "One. Two? \"Three!\" 'tis 4.5 etc. e.g. this", "***\n* a\n- b\n******", "{\"a\": NaN}", "```json\n[]```",
		"\xff\xfe. \xc3(", "a.\u2028B.", "ÀÉ İı ſ K ǅ", "https://a@b", "வணக்கம்.", ". . . .", "....!?)\"",
	} {
		f.Add(s)
	}
	var list []Instruction
	for id, a := range map[string]Args{
		"keywords:existence":                            {Keywords: []string{"a", "(b"}},
		"keywords:frequency":                            {Keyword: "a", Frequency: 2, Relation: "less than"},
		"keywords:forbidden_words":                      {Forbidden: []string{"é", "-x-", "b"}},
		"keywords:letter_frequency":                     {Letter: "!", LetterFrequency: 2, LetterRelation: "at least"},
		"language:response_language":                    {Language: "vi"},
		"length_constraints:number_sentences":           {NumSentences: 2, Relation: "at least"},
		"length_constraints:number_paragraphs":          {NumParagraphs: 2},
		"length_constraints:number_words":               {NumWords: 3, Relation: "at least"},
		"length_constraints:nth_paragraph_first_word":   {NumParagraphs: 2, NthParagraph: 2, FirstWord: "a"},
		"detectable_content:number_placeholders":        {NumPlaceholders: 1},
		"detectable_content:postscript":                 {Postscript: "P.P.S"},
		"detectable_format:number_bullet_lists":         {NumBullets: 1},
		"detectable_format:constrained_response":        {},
		"detectable_format:number_highlighted_sections": {NumHighlights: 1},
		"detectable_format:multiple_sections":           {SectionSplitter: "S", NumSections: 1},
		"detectable_format:json_format":                 {},
		"detectable_format:title":                       {},
		"combination:two_responses":                     {},
		"combination:repeat_prompt":                     {RepeatPrompt: "A b"},
		"startend:end_checker":                          {EndPhrase: "x."},
		"startend:quotation":                            {},
		"change_case:capital_word_frequency":            {CapitalWords: 1, CapitalRelation: "at least"},
		"change_case:english_capital":                   {},
		"change_case:english_lowercase":                 {},
		"punctuation:no_comma":                          {},
	} {
		in, err := New(id, a)
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, in)
	}
	if len(list) != len(kinds) {
		f.Fatalf("%d of %d kinds", len(list), len(kinds))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		strict, loose := Judge(list, text)
		for i := range list {
			if strict[i] && !loose[i] {
				t.Errorf("%s on %q: strictly followed, loosely not", list[i].ID, text)
			}
		}
		// Sentences are cuts of the text in order.
		rest := text
		for _, s := range sentences(text) {
			_, after, ok := strings.Cut(rest, s)
			if !ok || s == "" {
				t.Fatalf("%q: sentence %q", text, s)
			}
			rest = after
		}
	})
}
