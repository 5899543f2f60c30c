package chattemplate

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// filterFunc computes x|filter(args).
type filterFunc func(r *run, x Value, args *callArgs) (Value, error)

// lookupFilter returns the filter of a name; nil if there is none.
func lookupFilter(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "attr":
		return filterAttr
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter(name, capitalize)
	case "center":
		return filterCenter
	case "count", "length":
		return filterLength
	case "d", "default":
		return filterDefault
	case "dictsort":
		return filterDictSort
	case "e", "escape":
		return filterEscape
	case "filesizeformat":
		return filterFileSize
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "forceescape":
		return filterForceEscape
	case "format":
		return filterFormat
	case "groupby":
		return filterGroupBy
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "list":
		return filterList
	case "lower":
		return textFilter(name, lower)
	case "map":
		return filterMap
	case "max", "min":
		return extremeFilter(name)
	case "reject", "rejectattr", "select", "selectattr":
		return selectFilter(strings.HasPrefix(name, "reject"), strings.HasSuffix(name, "attr"))
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe":
		return filterSafe
	case "slice":
		return filterSlice
	case "sort":
		return filterSort
	case "string":
		return filterString
	case "striptags":
		return filterStripTags
	case "sum":
		return filterSum
	case "title":
		return textFilter(name, titleWords)
	case "tojson":
		return filterToJSON
	case "trim":
		return filterTrim
	case "truncate":
		return filterTruncate
	case "unique":
		return filterUnique
	case "upper":
		return textFilter(name, upper)
	case "urlencode":
		return filterURLEncode
	case "wordcount":
		return filterWordCount
	case "wordwrap", "pprint", "random", "urlize", "xmlattr":
		return func(*run, Value, *callArgs) (Value, error) {
			return nil, &tensor.UnsupportedError{What: "filter " + name + " in a chat template"}
		}
	}
	return nil
}

// softStr is str(v) that leaves Markup alone, charged to the run.
func (r *run) softStr(v Value) (s string, isMarkup bool, err error) {
	_, isMarkup = v.(markup)
	s, err = r.str(v)
	return s, isMarkup, err
}

func filterAttr(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("attr", "name")
	if err != nil {
		return nil, err
	}
	name, err := strArg(v[0], "attr")
	if err != nil {
		return nil, err
	}
	got, err := r.attribute(x, name)
	if got == nil && err == nil {
		return &undefined{obj: x, name: Str(name), kind: kindUndefined}, nil
	}
	return got, err
}

// intArg returns an optional int argument.
func intArg(v Value, missing int64) (int64, error) {
	if v == nil {
		return missing, nil
	}
	if u, ok := v.(*undefined); ok {
		return 0, u.fail()
	}
	i, ok := asIndex(v)
	if !ok {
		return 0, typeErr("'%s' object cannot be interpreted as an integer", v.typeName())
	}
	return i, nil
}

func isTrue(v Value) bool { return v != nil && truth(v) }

func filterLength(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("len"); err != nil {
		return nil, err
	}
	if s, ok := asStr(x); ok {
		return Int(runeLen(s)), r.step(len(s) / bytesPerStep)
	}
	if l, ok := x.(*loopContext); ok {
		n, err := l.length()
		return Int(n), err
	}
	n, ok := pyLen(x)
	if !ok {
		return nil, typeErr("object of type '%s' has no len()", x.typeName())
	}
	return Int(n), nil
}

func filterDefault(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("default", "default_value?", "boolean?")
	if err != nil {
		return nil, err
	}
	_, isUndef := x.(*undefined)
	if !isUndef && (!isTrue(v[1]) || truth(x)) {
		return x, nil
	}
	if v[0] == nil {
		return Str(""), nil
	}
	return v[0], nil
}

// maxJSONIndent bounds the indentation of one level of tojson.
const maxJSONIndent = 1024

func filterToJSON(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("tojson", "ensure_ascii?", "indent?", "separators?", "sort_keys?")
	if err != nil {
		return nil, err
	}
	style := jsonStyle{ascii: isTrue(v[0]), sortKeys: isTrue(v[3]), itemSep: ", ", keySep: ": "}
	switch indent := orNone(v[1]).(type) {
	case None:
	case Str, markup:
		style.indented = true
		style.indent, _ = asStr(indent)
	default:
		n, ok := asIndex(indent)
		if !ok {
			return nil, typeErr("can't multiply sequence by non-int of type '%s'", indent.typeName())
		}
		style.indented = true
		style.indent = strings.Repeat(" ", int(min(max(n, 0), maxJSONIndent+1)))
	}
	if len(style.indent) > maxJSONIndent {
		return nil, r.limit("bytes of JSON indentation", maxJSONIndent)
	}
	if style.indented {
		style.itemSep = ","
	}
	if _, isNone := orNone(v[2]).(None); !isNone {
		seps, err := r.list(v[2])
		if err != nil {
			return nil, err
		}
		if len(seps) != 2 {
			return nil, valueErr("not enough values to unpack (expected 2, got %d)", len(seps))
		}
		var ok [2]bool
		style.itemSep, ok[0] = asStr(seps[0])
		style.keySep, ok[1] = asStr(seps[1])
		if !ok[0] || !ok[1] {
			return nil, typeErr("separators must be str")
		}
	}
	s, err := r.dumps(x, style)
	return Str(s), err
}
