package layerwise_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

func TestTextSHA256(t *testing.T) {
	sum := sha256.Sum256([]byte(layerwise.Text))
	if got := hex.EncodeToString(sum[:]); got != layerwise.TextSHA256 {
		t.Errorf("text.txt has sha256 %s, the constant says %s", got, layerwise.TextSHA256)
	}
}

// TestTextLength: 8,192 tokens are twice what a calibration takes by default,
// so that a seed has windows to choose from.
func TestTextLength(t *testing.T) {
	if !utf8.ValidString(layerwise.Text) {
		t.Error("text.txt is not UTF-8")
	}
	if n := len(layerwise.Text); n < 36_000 || n > 48_000 {
		t.Errorf("text.txt has %d bytes, want 36,000 to 48,000", n)
	}
	t.Run("smollm2", func(t *testing.T) {
		c, err := checkpoint.Open(t.Context(), oracle.SampleGGUF(t), checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		file, ok := c.SupportFile("tokenizer.json")
		if !ok {
			t.Fatal("the sample has no tokenizer")
		}
		data, err := file.Data()
		if err != nil {
			t.Fatal(err)
		}
		tk, err := tokenizer.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(tk.Encode(layerwise.Text, tokenizer.EncodeOptions{})); n < 8192 {
			t.Errorf("%d tokens, want 8192 or more", n)
		}
	})
}

// TestTextIsMixed: with the usual number of tokens only about the first 16 kB
// may be read, and the rest must not be of another kind.
func TestTextIsMixed(t *testing.T) {
	const half = 16 << 10
	for _, part := range []struct{ name, text string }{
		{"first 16 kB", layerwise.Text[:half]},
		{"rest", layerwise.Text[half:]},
	} {
		for _, code := range [][]string{{"\nfunc ", "\nstatic "}, {"return ", "return;"}, {"$$", `\[`}, {`"`}, {"User: "}, {"Assistant: "}} {
			if !containsAny(part.text, code) {
				t.Errorf("%s: none of %q", part.name, code)
			}
		}
		digits, other := 0, map[string]int{}
		for _, r := range part.text {
			if unicode.IsDigit(r) {
				digits++
			}
			for name, table := range unicode.Scripts {
				if name != "Latin" && unicode.IsLetter(r) && unicode.Is(table, r) {
					other[name]++
				}
			}
		}
		if digits < 300 {
			t.Errorf("%s: %d digits, want 300", part.name, digits)
		}
		scripts := 0
		for _, n := range other {
			if n >= 80 {
				scripts++
			}
		}
		if scripts < 2 {
			t.Errorf("%s: letters of scripts other than Latin: %v; want two with 80", part.name, other)
		}
	}
}

func containsAny(s string, list []string) bool {
	for _, sub := range list {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}

// TestTextIsDisjoint looks for runs of runLength words that the text shares
// with what models are evaluated on: every text, token list and question of
// the repository, and of the shared data folder beside it where there is one.
func TestTextIsDisjoint(t *testing.T) {
	own := runs(layerwise.Text)
	seen := map[string]bool{}
	check := func(name, text string) {
		if run := firstShared(own, text); run != "" {
			t.Errorf("%s shares with text.txt: %s", name, run)
		}
	}
	scan := func(root string) {
		err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // made and removed beside us
				return nil
			case err != nil:
				return err
			case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "dist" || name == "models"):
				return fs.SkipDir
			case d.IsDir() || name == "calibrate/layerwise/text.txt":
				return nil
			}
			read := map[string]func([]byte) (string, error){".txt": plain, ".raw": plain, ".jsonl": jsonStrings}[path.Ext(name)]
			switch {
			case strings.HasSuffix(name, "_ids.txt"):
				read = storyIDs
			case path.Base(name) == "expected_greedy.json":
				read = jsonStrings
			case read == nil:
				return nil
			}
			data, err := os.ReadFile(path.Join(root, name))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err != nil {
				return err
			}
			text, err := read(data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			check(name, text)
			seen[name] = len(text) > 0
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	scan("../..")
	for _, name := range []string{
		"verify/text.txt", "samples/stories260K/expected_greedy.json",
		"internal/reference/testdata/tinystories_sample.txt",
		"internal/reference/testdata/wikitext2_ids.txt",
	} {
		if !seen[name] {
			t.Errorf("%s was not compared", name)
		}
	}
	const shared = "../../../shared/data"
	if _, err := os.Stat(shared); err == nil {
		scan(shared)
	}
}

// TestFirstShared plants runs that must be found, and near misses.
func TestFirstShared(t *testing.T) {
	own := runs("Before. One two, three four\nfive six seven-eight; after 9 3/4.")
	for text, want := range map[string]string{
		"x ONE two three “four” five Six seven eight y": "one two three four five six seven eight",
		"one two three four five six seven":             "",
		"one two three four five six seven nine":        "",
		"":                                              "",
		"seven eight after 9 3 4":                       "",
		"four five six seven eight after 9 3":           "four five six seven eight after 9 3",
	} {
		if got := firstShared(own, text); got != want {
			t.Errorf("%q shares %q, want %q", text, got, want)
		}
	}
}

const runLength = 8

// words are the runs of letters, marks and digits, in lower case.
func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M, unicode.N)
	})
}

// runs is the set of all runs of runLength words.
func runs(text string) map[string]bool {
	out := map[string]bool{}
	w := words(text)
	for i := range len(w) - runLength + 1 {
		out[strings.Join(w[i:i+runLength], " ")] = true
	}
	return out
}

// firstShared returns the first run of text that is in own, or nothing.
func firstShared(own map[string]bool, text string) string {
	w := words(text)
	for i := range len(w) - runLength + 1 {
		if run := strings.Join(w[i:i+runLength], " "); own[run] {
			return run
		}
	}
	return ""
}

func plain(data []byte) (string, error) { return string(data), nil }

// jsonStrings gathers every string of a sequence of JSON values.
func jsonStrings(data []byte) (string, error) {
	var b strings.Builder
	var gather func(v any)
	gather = func(v any) {
		switch v := v.(type) {
		case string:
			b.WriteString(v + "\n")
		case []any:
			for _, e := range v {
				gather(e)
			}
		case map[string]any:
			for _, e := range v {
				gather(e)
			}
		}
	}
	for d := json.NewDecoder(bytes.NewReader(data)); d.More(); {
		var v any
		if err := d.Decode(&v); err != nil {
			return "", err
		}
		gather(v)
	}
	return b.String(), nil
}

// storyIDs decodes ids of the sample's tokenizer; lines with # are comments.
func storyIDs(data []byte) (string, error) {
	file, err := fs.ReadFile(samples.Stories260K(), "tokenizer.json")
	if err != nil {
		return "", err
	}
	tk, err := tokenizer.Parse(file)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var ids []int32
		for _, f := range strings.Fields(line) {
			id, err := strconv.ParseInt(f, 10, 32)
			if err != nil {
				return "", err
			}
			ids = append(ids, int32(id))
		}
		b.WriteString(tk.Decode(ids, true) + "\n")
	}
	return b.String(), nil
}
