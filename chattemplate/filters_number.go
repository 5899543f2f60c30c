package chattemplate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

func filterAbs(_ *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("abs"); err != nil {
		return nil, err
	}
	if f, ok := x.(Float); ok {
		return Float(math.Abs(float64(f))), nil
	}
	if b, ok := x.(*bigInt); ok {
		return &bigInt{new(big.Int).Abs(b.v)}, nil
	}
	i, ok := asIndex(x)
	if !ok {
		return nil, typeErr("bad operand type for abs(): '%s'", x.typeName())
	}
	if i < 0 {
		return unary('-', Int(i))
	}
	return Int(i), nil
}

func filterFileSize(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("filesizeformat", "binary?")
	if err != nil {
		return nil, err
	}
	n, err := toFloat(x)
	if err != nil {
		return nil, err
	}
	base, prefixes := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if isTrue(v[0]) {
		base, prefixes = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case n == 1:
		return Str("1 Byte"), nil
	case n < base:
		return Str(strconv.FormatFloat(math.Trunc(n), 'f', 0, 64) + " Bytes"), nil
	}
	unit := base
	for i, p := range prefixes {
		unit *= base
		if n < unit || i == len(prefixes)-1 {
			return Str(strconv.FormatFloat(base*n/unit, 'f', 1, 64) + " " + p), nil
		}
	}
	return nil, nil
}

// toFloat is Python's float(v).
func toFloat(v Value) (float64, error) {
	if u, ok := v.(*undefined); ok {
		return 0, u.fail()
	}
	if f, ok := asFloat(v); ok {
		return f, nil
	}
	s, ok := asStr(v)
	if !ok {
		return 0, typeErr("float() argument must be a string or a real number, not '%s'", v.typeName())
	}
	text := strings.ToLower(strings.TrimFunc(s, isSpace))
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) <= 1 {
		switch digits {
		case "inf", "infinity", "nan":
			f, _ := strconv.ParseFloat(text, 64)
			return f, nil
		}
		clean := digits
		if strings.Contains(digits, "_") && !strings.HasPrefix(digits, "_") && !strings.HasSuffix(digits, "_") && !strings.Contains(digits, "__") {
			clean = strings.ReplaceAll(digits, "_", "")
		}
		if strings.Trim(clean, "0123456789.e+-") == "" && clean != "" {
			f, err := strconv.ParseFloat(text[:len(text)-len(digits)]+clean, 64)
			if err == nil || math.IsInf(f, 0) {
				return f, nil
			}
		}
	}
	return 0, valueErr("could not convert string to float: %s", quotePy(s))
}

// parseInt is Python's int(s, base); nil where that is a ValueError.
func parseInt(s string, base int64) Value {
	if base != 0 && (base < 2 || base > 36) {
		return nil
	}
	text := strings.ToLower(strings.TrimFunc(s, isSpace))
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	for prefix, b := range map[string]int64{"0x": 16, "0o": 8, "0b": 2} {
		if strings.HasPrefix(text, prefix) && (base == b || base == 0) {
			text, base = strings.TrimPrefix(text[2:], "_"), b
			break
		}
	}
	if base == 0 {
		base = 10
		if strings.HasPrefix(text, "0") && strings.Trim(text, "0_") != "" {
			return nil
		}
	}
	if text == "" || strings.HasPrefix(text, "_") || strings.HasSuffix(text, "_") || strings.Contains(text, "__") || text[0] == '+' || text[0] == '-' {
		return nil
	}
	digits := []byte(nil)
	for _, c := range strings.ReplaceAll(text, "_", "") {
		if c >= 0x80 {
			if !unicode.Is(unicode.Nd, c) {
				return nil
			}
			c = '0' + decimalValue(c)
		}
		digits = append(digits, byte(c))
	}
	if n, err := strconv.ParseInt(sign+string(digits), int(base), 64); err == nil {
		return Int(n)
	}
	if len(digits) <= maxIntDigits {
		if n, ok := new(big.Int).SetString(sign+string(digits), int(base)); ok {
			return &bigInt{n}
		}
	}
	return nil
}

// decimalValue is the value of a character of category Nd: they come in runs
// of ten that start with zero.
func decimalValue(c rune) rune {
	zero := c
	for unicode.Is(unicode.Nd, zero-1) && c-zero < 9 {
		zero--
	}
	if c-zero == 9 && unicode.Is(unicode.Nd, zero-1) {
		return (c - 0x1d7ce) % 10 // adjoining runs exist among mathematical digits only
	}
	return c - zero
}

func filterInt(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("int", "default?", "base?")
	if err != nil {
		return nil, err
	}
	if v[0] == nil {
		v[0] = Int(0)
	}
	base, err := intArg(v[1], 10)
	if err != nil {
		return nil, err
	}
	switch n := x.(type) {
	case Float:
		if math.IsNaN(float64(n)) {
			return v[0], nil
		}
		return floatToInt(float64(n))
	case *bigInt:
		return n, nil
	case *undefined:
		return nil, n.fail()
	}
	if i, ok := asIndex(x); ok {
		return Int(i), nil
	}
	s, ok := asStr(x)
	if !ok {
		return v[0], nil
	}
	if i := parseInt(s, base); i != nil {
		return i, nil
	}
	f, err := toFloat(x)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return v[0], nil
	}
	return floatToInt(f)
}

func filterFloat(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("float", "default?")
	if err != nil {
		return nil, err
	}
	if u, ok := x.(*undefined); ok {
		return nil, u.fail()
	}
	f, err := toFloat(x)
	switch {
	case err == nil:
		return Float(f), nil
	case v[0] == nil:
		return Float(0), nil
	}
	return v[0], nil
}

func filterRound(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("round", "precision?", "method?")
	if err != nil {
		return nil, err
	}
	precision, err := intArg(v[0], 0)
	if err != nil {
		return nil, err
	}
	how := "common"
	if v[1] != nil {
		how, _ = asStr(v[1])
	}
	if how != "common" && how != "ceil" && how != "floor" {
		return nil, errf(kindFilterArg, "method must be common, ceil or floor")
	}
	if u, ok := x.(*undefined); ok && how != "common" {
		return nil, u.fail()
	}
	if !isNumber(x) {
		return nil, typeErr("type %s doesn't define __round__ method", x.typeName())
	}
	if precision > 323 || precision < -323 {
		precision = min(max(precision, -323), 323)
	}
	if how != "common" {
		f, _ := asFloat(x)
		scale := math.Pow(10, float64(precision))
		f *= scale
		if how == "ceil" {
			f = math.Ceil(f)
		} else {
			f = math.Floor(f)
		}
		return Float(f / scale), nil
	}
	if f, ok := x.(Float); ok {
		return Float(roundFloat(float64(f), int(precision))), nil
	}
	if isBig(x) {
		return x, nil
	}
	i, _ := asIndex(x)
	return roundInt(i, precision)
}

// roundFloat is Python's round(f, precision): half to even on the exact value.
func roundFloat(f float64, precision int) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return f
	}
	if precision >= 0 {
		r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
		return r
	}
	scale := math.Pow(10, float64(-precision))
	return math.RoundToEven(f/scale) * scale
}

func roundInt(i, precision int64) (Value, error) {
	if precision >= 0 {
		return Int(i), nil
	}
	if precision < -18 {
		return Int(0), nil
	}
	scale := int64(math.Pow10(int(-precision)))
	q, rest := i/scale, i%scale
	if rest < 0 {
		q, rest = q-1, rest+scale
	}
	if rest > scale-rest || rest == scale-rest && q&1 == 1 {
		q++
	}
	return intMul(q, scale)
}
