package chattemplate

import (
	"math"
	"math/big"
	"math/bits"
	"strings"
)

// unary is -v or +v.
func unary(op byte, v Value) (Value, error) {
	switch v := v.(type) {
	case *undefined:
		return nil, v.fail()
	case Float:
		if op == '-' {
			return -v, nil
		}
		return v, nil
	}
	i, ok := asIndex(v)
	switch {
	case !ok:
		return nil, typeErr("bad operand type for unary %c: '%s'", op, v.typeName())
	case op == '+':
		return Int(i), nil
	case i == math.MinInt64:
		return nil, errIntRange()
	}
	return Int(-i), nil
}

func badOperands(op tokenKind, x, y Value) error {
	return typeErr("unsupported operand type(s) for %s: '%s' and '%s'", op, x.typeName(), y.typeName())
}

// binary is x op y for the arithmetic operators.
func (r *run) binary(op tokenKind, x, y Value) (Value, error) {
	if s, ok := asStr(x); ok && op == "%" {
		return r.percentFormat(x, s, y)
	}
	for _, v := range [2]Value{x, y} {
		if u, ok := v.(*undefined); ok {
			return nil, u.fail()
		}
	}
	xi, xInt := asIndex(x)
	yi, yInt := asIndex(y)
	if xInt && yInt {
		return intOp(op, xi, yi)
	}
	if isNumber(x) && isNumber(y) {
		if isBig(x) && !isFloat(y) || isBig(y) && !isFloat(x) {
			return nil, errIntRange()
		}
		xf, _ := asFloat(x)
		yf, _ := asFloat(y)
		return floatOp(op, xf, yf)
	}
	switch op {
	case "+":
		return r.add(x, y)
	case "*":
		if yInt {
			return r.repeat(x, yi, y)
		}
		if xInt {
			return r.repeat(y, xi, x)
		}
		if isSequence(x) {
			return nil, typeErr("can't multiply sequence by non-int of type '%s'", y.typeName())
		}
	}
	return nil, badOperands(op, x, y)
}

func isFloat(v Value) bool {
	_, ok := v.(Float)
	return ok
}

func isBig(v Value) bool {
	_, ok := v.(*bigInt)
	return ok
}

func isSequence(v Value) bool {
	switch v.(type) {
	case Str, markup, *List, *Tuple:
		return true
	}
	return false
}

// add joins strings and sequences.
func (r *run) add(x, y Value) (Value, error) {
	_, xMarkup := x.(markup)
	_, yMarkup := y.(markup)
	if xs, ok := asStr(x); ok {
		ys, ok := asStr(y)
		if !ok {
			return nil, typeErr("can only concatenate str (not \"%s\") to str", y.typeName())
		}
		if xMarkup && !yMarkup {
			ys = escapeHTML(ys)
		}
		if yMarkup && !xMarkup {
			xs = escapeHTML(xs)
		}
		if err := r.alloc(len(xs) + len(ys)); err != nil {
			return nil, err
		}
		return strLike(xs+ys, xMarkup || yMarkup), nil
	}
	xItems, xOK := itemsOf(x)
	yItems, yOK := itemsOf(y)
	_, xTuple := x.(*Tuple)
	_, yTuple := y.(*Tuple)
	switch {
	case !xOK:
		return nil, badOperands("+", x, y)
	case !yOK || xTuple != yTuple:
		return nil, typeErr("can only concatenate %s (not \"%s\") to %s", x.typeName(), y.typeName(), x.typeName())
	}
	if err := r.allocItems(len(xItems) + len(yItems)); err != nil {
		return nil, err
	}
	items := append(append(make([]Value, 0, len(xItems)+len(yItems)), xItems...), yItems...)
	if xTuple {
		return NewTuple(items...), nil
	}
	return NewList(items...), nil
}

// repeat is v * n; other is the operand n came from.
func (r *run) repeat(v Value, n int64, other Value) (Value, error) {
	n = max(n, 0)
	size := func(unit int) (int, error) {
		hi, lo := bits.Mul64(uint64(unit), uint64(n))
		if hi != 0 || lo > math.MaxInt32*64 {
			return 0, r.limit("bytes of memory", float64(r.opts.MaxMemory))
		}
		return int(lo), nil
	}
	switch v := v.(type) {
	case Str, markup:
		s, _ := asStr(v)
		total, err := size(len(s))
		if err == nil {
			err = r.alloc(total)
		}
		if err != nil {
			return nil, err
		}
		if s == "" {
			n = 0
		}
		_, isMarkup := v.(markup)
		return strLike(strings.Repeat(s, int(n)), isMarkup), nil
	case *List, *Tuple:
		items, _ := itemsOf(v)
		total, err := size(len(items))
		if err == nil {
			err = r.allocItems(total)
		}
		if err != nil {
			return nil, err
		}
		out := make([]Value, 0, total)
		for len(out) < total {
			out = append(out, items...)
		}
		if _, isTuple := v.(*Tuple); isTuple {
			return NewTuple(out...), nil
		}
		return NewList(out...), nil
	}
	return nil, badOperands("*", v, other)
}

func zeroDivision(what string) error { return errf(kindZeroDiv, "%s", what) }

// intOp computes with ints; results beyond 64 bits are errors.
func intOp(op tokenKind, x, y int64) (Value, error) {
	switch op {
	case "+":
		if s := x + y; (s > x) == (y > 0) {
			return Int(s), nil
		}
		return nil, errIntRange()
	case "-":
		if s := x - y; (s < x) == (y > 0) {
			return Int(s), nil
		}
		return nil, errIntRange()
	case "*":
		return intMul(x, y)
	case "/":
		if y == 0 {
			return nil, zeroDivision("division by zero")
		}
		if max(x, -x) > 1<<53 || max(y, -y) > 1<<53 || x == math.MinInt64 || y == math.MinInt64 {
			f, _ := big.NewRat(x, 1).Quo(big.NewRat(x, 1), big.NewRat(y, 1)).Float64()
			return Float(f), nil
		}
		return Float(float64(x) / float64(y)), nil
	case "//", "%":
		if y == 0 {
			return nil, zeroDivision("integer division or modulo by zero")
		}
		if x == math.MinInt64 && y == -1 {
			if op == "%" {
				return Int(0), nil
			}
			return nil, errIntRange()
		}
		q, m := x/y, x%y
		if m != 0 && (m < 0) != (y < 0) {
			q, m = q-1, m+y
		}
		if op == "%" {
			return Int(m), nil
		}
		return Int(q), nil
	case "**":
		return intPow(x, y)
	}
	return nil, badOperands(op, Int(x), Int(y))
}

func intMul(x, y int64) (Value, error) {
	if x == 0 || y == 0 {
		return Int(0), nil
	}
	p := x * y
	if p/y != x || x == -1 && y == math.MinInt64 || y == -1 && x == math.MinInt64 {
		return nil, errIntRange()
	}
	return Int(p), nil
}

func intPow(x, y int64) (Value, error) {
	if y < 0 {
		if x == 0 {
			return nil, zeroDivision("0.0 cannot be raised to a negative power")
		}
		return Float(math.Pow(float64(x), float64(y))), nil
	}
	switch x {
	case 0, 1:
		if y == 0 {
			return Int(1), nil
		}
		return Int(x), nil
	case -1:
		return Int(1 - 2*(y&1)), nil
	}
	if y > 63 {
		return nil, errIntRange()
	}
	result := Value(Int(1))
	for range y {
		var err error
		if result, err = intMul(int64(result.(Int)), x); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func floatOp(op tokenKind, x, y float64) (Value, error) {
	switch op {
	case "+":
		return Float(x + y), nil
	case "-":
		return Float(x - y), nil
	case "*":
		return Float(x * y), nil
	case "/":
		if y == 0 {
			return nil, zeroDivision("float division by zero")
		}
		return Float(x / y), nil
	case "//", "%":
		if y == 0 {
			return nil, zeroDivision("float floor division by zero")
		}
		q, m := floatDivMod(x, y)
		if op == "%" {
			return Float(m), nil
		}
		return Float(q), nil
	}
	return floatPow(x, y)
}

// floatDivMod follows CPython's float_divmod: the remainder has the sign of y.
func floatDivMod(x, y float64) (q, m float64) {
	m = math.Mod(x, y)
	div := (x - m) / y
	if m != 0 {
		if (y < 0) != (m < 0) {
			m += y
			div--
		}
	} else {
		m = math.Copysign(0, y)
	}
	if div == 0 {
		return math.Copysign(0, x/y), m
	}
	q = math.Floor(div)
	if div-q > 0.5 {
		q++
	}
	return q, m
}

func floatPow(x, y float64) (Value, error) {
	if x == 0 && y < 0 {
		return nil, zeroDivision("0.0 cannot be raised to a negative power")
	}
	if x < 0 && y != math.Trunc(y) && !math.IsInf(y, 0) {
		return nil, valueErr("a negative number to a fractional power is complex, which this engine does not have")
	}
	p := math.Pow(x, y)
	if math.IsInf(p, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		return nil, errf(kindOverflow, "Numerical result out of range")
	}
	return Float(p), nil
}

// escapeHTML is markupsafe.escape.
func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;").Replace(s)
}
