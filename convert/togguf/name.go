package togguf

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// modelName is what a model's name tells, in the parts that GGUF files name
// (gguf-py, metadata.py, get_model_id_components).
type modelName struct {
	full, organization            string // as written: "SmolLM2-135M-Instruct", "HuggingFaceTB"
	base, finetune, version, size string
}

var (
	versionPart = regexp.MustCompile(`(?i)^(v|iter)?\d+([.]\d+)*$`)
	typePart    = regexp.MustCompile(`(?i)^(i?q\d(_\w)*|b?fp?(16|32))$`)
	sizePart    = regexp.MustCompile(`(?i)^((A|\d+x)?\d+([._]\d+)?[KMBT]\d?|small|mini|medium|large|x?xl)$`)
	tunePart    = regexp.MustCompile(`(?i)^(chat|instruct|vision|lora)$`)
	bloomPart   = regexp.MustCompile(`^(.*)([A-Za-z])(\d)$`)
)

// The kinds of parts.
const (
	isVersion = 1 << iota
	isType
	isSize
	isTune
	isBase
)

// parseName takes a model's name apart. parameters decides what a number with a
// unit means: 128K is no size of a model with billions of them.
func parseName(id string, parameters int64) modelName {
	if id == "" || strings.Contains(id, " ") {
		return modelName{full: id}
	}
	n := modelName{full: id}
	if org, rest, ok := strings.Cut(id, "/"); ok {
		n.full = rest
		if !strings.HasPrefix(org, ".") {
			n.organization = org
		}
	}
	parts := slices.DeleteFunc(strings.Split(n.full, "-"), func(s string) bool { return s == "" })
	kinds := make([]int, len(parts))
	for i, p := range parts {
		switch {
		case versionPart.MatchString(p):
			kinds[i] = isVersion
		case typePart.MatchString(p):
			kinds[i], parts[i] = isType, strings.ToUpper(p)
		case i > 0 && sizePart.MatchString(p):
			parts[i], kinds[i] = sizeOf(p, parameters)
		case i > 0 && tunePart.MatchString(p):
			kinds[i] = isTune
		}
	}
	// "small" counts for nothing beside a number.
	hasNumber := false
	for i, p := range parts {
		hasNumber = hasNumber || kinds[i] == isSize && strings.ContainsAny(p, "0123456789")
	}
	for i, p := range parts {
		if hasNumber && kinds[i] == isSize && !strings.ContainsAny(p, "0123456789.") {
			kinds[i] = 0
		}
	}
	start := true
	for i, p := range parts {
		switch {
		case start && (kinds[i] == 0 && unicode.IsLetter([]rune(p)[0]) || kinds[i] == isVersion):
			kinds[i] |= isBase
		default:
			start = false
			if kinds[i] == 0 {
				kinds[i] = isTune
			}
		}
	}
	for i := len(kinds) - 1; i >= 0 && kinds[i] == isBase|isVersion; i-- {
		kinds[i] = isVersion // a version behind the base name is not part of it
	}
	join := func(want func(k int) bool) string {
		var list []string
		for i, p := range parts {
			if want(kinds[i]) {
				list = append(list, p)
			}
		}
		return strings.Join(list, "-")
	}
	n.base = join(func(k int) bool { return k&isBase != 0 })
	n.finetune = join(func(k int) bool { return k&isTune != 0 })
	n.version = join(func(k int) bool { return k == isVersion })
	var sizes []string
	for i, p := range parts {
		if kinds[i]&isSize != 0 && !slices.Contains(sizes, p) {
			sizes = append(sizes, p)
		}
	}
	n.size = strings.Join(sizes, "-")
	if n.size == "" && n.finetune == "" && n.version == "" {
		n.base = "" // a single word may be anything
	}
	return n
}

// sizeOf normalizes a part that looks like a size, and says whether it is one
// or rather the length of a context.
func sizeOf(p string, parameters int64) (string, int) {
	p = strings.ReplaceAll(p, "_", ".")
	if m := bloomPart.FindStringSubmatch(p); m != nil {
		p = m[1] + "." + m[3] + m[2] // 7b1
	}
	last := len(p) - 1
	unit := strings.IndexByte(" KMBT", p[last]&^0x20)
	if last < 1 || p[last-1] < '0' || p[last-1] > '9' || unit < 1 {
		return p, isSize
	}
	p = p[:last] + strings.ToUpper(p[last:])
	number, err := strconv.ParseFloat(p[:last], 64)
	if err != nil || parameters == 0 {
		return p, isSize // "8x7B", "A3B"
	}
	if math.Abs(number*math.Pow(1000, float64(unit))-float64(parameters)) > float64(7*parameters/8) {
		return p[:last] + strings.ToLower(p[last:]), isTune
	}
	return p, isSize
}

var numberWord = regexp.MustCompile(`^(v\d+(?:\.\d+)*|\d.*)$`)

// title spells a name as a title: words in lower case get a capital.
func title(s string) string {
	words := strings.Fields(strings.ReplaceAll(s, "-", " "))
	for i, w := range words {
		if w == strings.ToLower(w) && w != strings.ToUpper(w) && !numberWord.MatchString(w) {
			words[i] = titleWord(w)
		}
	}
	return strings.Join(words, " ")
}

// titleWord is Python's str.title for one word: a capital behind everything
// that is no letter.
func titleWord(w string) string {
	up := true
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) {
			up = true
			return r
		}
		if up {
			up = false
			return unicode.ToTitle(r)
		}
		return r
	}, w)
}

// sizeLabel is the number of parameters for people, with two digits at least:
// "135M", "1.5B" (gguf-py, utility.py).
func sizeLabel(parameters int64) string {
	scaled, unit := float64(parameters)*1e-3, "K"
	switch {
	case parameters > 1e12:
		scaled, unit = float64(parameters)*1e-12, "T"
	case parameters > 1e9:
		scaled, unit = float64(parameters)*1e-9, "B"
	case parameters > 1e6:
		scaled, unit = float64(parameters)*1e-6, "M"
	}
	digits := len(strings.TrimLeft(strconv.FormatFloat(math.RoundToEven(scaled), 'f', 0, 64), "0"))
	return fmt.Sprintf("%.*f%s", max(0, 2-digits), scaled, unit)
}
