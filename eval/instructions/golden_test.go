package instructions

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden are verdicts of IFEval's Python code, written by _generate/golden.py.
type golden struct {
	Texts        []string
	Sentences    []int
	Words        [][]string
	Languages    []string // "?": the detector's chance decides
	Instructions []struct {
		ID            string
		Args          Args
		Strict, Loose string // a character for each text: 0, 1, or ?
	}
}

func readGolden(t *testing.T) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestSentencesAndWords(t *testing.T) {
	g := readGolden(t)
	for i, text := range g.Texts {
		if got := len(sentences(text)); got != g.Sentences[i] {
			t.Errorf("%q: %d sentences %q, want %d", text, got, sentences(text), g.Sentences[i])
		}
		if got := words(text); !slices.Equal(got, g.Words[i]) {
			t.Errorf("%q: words differ (-want +got):\n%s", text, cmp.Diff(g.Words[i], got))
		}
	}
}

func TestLanguages(t *testing.T) {
	g := readGolden(t)
	steady := 0
	for i, text := range g.Texts {
		if g.Languages[i] == "?" {
			continue
		}
		steady++
		if got := languages().detect(text); got != g.Languages[i] {
			t.Errorf("%q: language %q, want %q", text, got, g.Languages[i])
		}
	}
	if steady < 120 {
		t.Errorf("only %d texts have one language", steady)
	}
}

func TestVerdicts(t *testing.T) {
	g := readGolden(t)
	seen := map[string][2]bool{}
	n := 0
	for _, in := range g.Instructions {
		i, err := New(in.ID, in.Args)
		if err != nil {
			t.Fatal(err)
		}
		for k, text := range g.Texts {
			strict, loose := Judge([]Instruction{i}, text)
			for _, v := range []struct {
				name string
				got  bool
				want byte
			}{{"strict", strict[0], in.Strict[k]}, {"loose", loose[0], in.Loose[k]}} {
				if v.want == '?' {
					continue
				}
				n++
				s := seen[in.ID]
				s[v.want-'0'] = true
				seen[in.ID] = s
				if v.got != (v.want == '1') {
					t.Errorf("%s %+v, %s, on %q: got %v", in.ID, in.Args, v.name, text, v.got)
				}
			}
		}
	}
	for _, id := range Kinds() {
		if seen[id] != [2]bool{true, true} {
			t.Errorf("%s: the golden file has not both verdicts", id)
		}
	}
	t.Logf("%d verdicts compared", n)
}
