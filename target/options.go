package target

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Option is one provider option.
type Option struct {
	Key string `json:"key"`
	// Type is "bool", "int", "bytes", "enum", "text", "path", "shapes", or
	// "address" for what a program sets and no user can.
	Type    string   `json:"type"`
	Default string   `json:"default"`
	Values  []string `json:"values"` // of an enum
	// Min and Max bound an int; both 0 is unbounded.
	Min int64 `json:"min"`
	Max int64 `json:"max"`
	// Since is the ONNX Runtime release that brought it, where known.
	Since string `json:"since"`
	Doc   string `json:"doc"`
	// Effects say what releases of the library behind the provider make of it.
	Effects []Effect `json:"effects"`
}

// Effect is what a range of releases makes of an option when it is set to
// something else than its default.
type Effect struct {
	From string `json:"from"` // first release, "" from the start
	To   string `json:"to"`   // first release it no longer holds for, "" for all
	// Ignored says that setting it changes nothing there.
	Ignored bool   `json:"ignored"`
	Text    string `json:"text"`
	Source  string `json:"source"`
}

// OptionNote is what becomes of one option at the target's release.
type OptionNote struct {
	Key, Value string
	// Ignored: the release does nothing with it.
	Ignored bool
	// Dropped: not handed over, because the release does better without.
	Dropped bool
	Text    string
}

// CheckOptions judges provider options by the name of an execution provider; see
// Target.CheckOptions.
func CheckOptions(ep string, options map[string]string) error {
	t, err := Find(ep)
	if err != nil {
		return err
	}
	return t.CheckOptions(options)
}

// CheckOptions reports keys that the provider does not know, with the nearest
// one it does, and values it would refuse, with what it takes. All problems are
// in the one error; nil where there are none.
func (t *Target) CheckOptions(options map[string]string) error {
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(options)) {
		o := t.Option(key)
		if o == nil {
			problems = append(problems, t.unknownOption(key))
			continue
		}
		if err := o.check(options[key]); err != nil {
			problems = append(problems, fmt.Errorf("%s option %s: %w", t.Title, key, err))
		}
	}
	return errors.Join(problems...)
}

// Option finds an option by its key; nil where the provider has none of that name.
func (t *Target) Option(key string) *Option {
	for i := range t.Options {
		if t.Options[i].Key == key {
			return &t.Options[i]
		}
	}
	return nil
}

func (t *Target) unknownOption(key string) error {
	var keys []string
	for _, o := range t.Options {
		keys = append(keys, o.Key)
	}
	if len(keys) == 0 {
		return fmt.Errorf("%s has no provider options; %q is not one", t.Title, key)
	}
	if near := didYouMean(key, keys); near != "" {
		return fmt.Errorf("%s has no option %q%s", t.Title, key, near)
	}
	// Somebody else's option: say whose.
	for _, name := range Known() {
		if other, err := load(name); err == nil && name != t.Name && other.Option(key) != nil {
			return fmt.Errorf("%s has no option %q; it belongs to %s", t.Title, key, other.Title)
		}
	}
	return fmt.Errorf("%s has no option %q; it has %s", t.Title, key, strings.Join(keys, ", "))
}

// maxValue is ONNX Runtime's limit on the text of an option.
const maxValue = 1024

// check says what is wrong with a value.
func (o *Option) check(v string) error {
	if strings.ContainsRune(v, 0) {
		return errors.New("the value has a zero byte")
	}
	switch o.Type {
	case "bool":
		// What ParseStringWithClassicLocale takes for a bool.
		if !slices.Contains([]string{"0", "1", "true", "True", "false", "False"}, v) {
			return fmt.Errorf("%q is not one of 0, 1, true, false", v)
		}
	case "switch": // compared with "1"; anything else is silently off
		if v != "0" && v != "1" {
			return fmt.Errorf("%q is neither 0 nor 1", v)
		}
	case "int":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", v)
		}
		if (o.Min != 0 || o.Max != 0) && (n < o.Min || n > o.Max) {
			return fmt.Errorf("%d is outside %d to %d", n, o.Min, o.Max)
		}
	case "bytes":
		if _, err := strconv.ParseUint(v, 10, 64); err != nil {
			return fmt.Errorf("%q is not a number of bytes, such as %d", v, 1<<30)
		}
	case "enum":
		if !slices.Contains(o.Values, v) {
			return fmt.Errorf("%q is not one of %s%s", v, strings.Join(o.Values, ", "), didYouMean(v, o.Values))
		}
	case "shapes":
		return checkShapes(v)
	case "address":
		return errors.New("the program sets it, it cannot be given by hand")
	case "text", "path":
		if len(v) > maxValue {
			return fmt.Errorf("the value has %d bytes, at most %d are taken", len(v), maxValue)
		}
	}
	return nil
}

// checkShapes reads TensorRT shape profiles: "name:1x8x0x128,name:1x1".
func checkShapes(v string) error {
	if v == "" {
		return nil
	}
	for _, part := range strings.Split(v, ",") {
		i := strings.LastIndexByte(part, ':')
		if i <= 0 {
			return fmt.Errorf("%q is not a shape; write INPUT:1x8x128,INPUT:1x1", part)
		}
		for _, dim := range strings.Split(part[i+1:], "x") {
			if n, err := strconv.ParseInt(dim, 10, 64); err != nil || n < 0 || n > math.MaxInt32 {
				return fmt.Errorf("%q of %q is not an extent", dim, part)
			}
		}
	}
	return nil
}

// Explain says, in order of the keys, what the target's release makes of
// options that are known and not at their default; options with nothing to say
// are left out.
func (t *Target) Explain(options map[string]string) []OptionNote {
	var notes []OptionNote
	for _, key := range slices.Sorted(maps.Keys(options)) {
		o := t.Option(key)
		if o == nil || sameValue(o, options[key], o.Default) {
			continue
		}
		for _, e := range o.Effects {
			if inRange(t.Release.Version, e.From, e.To) {
				notes = append(notes, OptionNote{Key: key, Value: options[key], Ignored: e.Ignored, Text: e.Text})
			}
		}
	}
	return notes
}

// sameValue compares two values of an option; "true" is "1".
func sameValue(o *Option, a, b string) bool {
	if o.Type == "bool" {
		on := func(s string) bool { return s == "1" || s == "true" || s == "True" }
		return on(a) == on(b)
	}
	return a == b
}

// didYouMean is `; did you mean "x"?` for the known name nearest to an unknown
// one, "" where none is near.
func didYouMean(name string, known []string) string {
	best, bestDistance := "", max(2, len(name)/3)+1
	fold := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "_", " ", "_").Replace(s)) }
	for _, k := range known {
		d := distance(fold(name), fold(k))
		// A name that lacks only the provider's prefix, or its end, is near too.
		if _, rest, ok := strings.Cut(k, "_"); ok && fold(name) == fold(rest) {
			d = 0
		}
		if len(name) >= 5 && strings.HasPrefix(fold(k), fold(name)) {
			d = min(d, 2)
		}
		if d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of bytes to insert, drop, change or swap with their
// neighbour to turn a into b (optimal string alignment). Long names are cut: the
// work stays bounded whatever is typed.
func distance(a, b string) int {
	const longest = 64
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	rows := [3][longest + 1]int{}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, up, up2 := &rows[i%3], &rows[(i+2)%3], &rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(up[j]+1, row[j-1]+1, up[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], up2[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}
