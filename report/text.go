package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes hostile text one line of visible characters: control characters,
// line ends and what changes the direction of writing become U+FFFD or a space.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r), r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069, r == 0x200E, r == 0x200F, r == 0x061C, r == 0xFEFF:
			return '\uFFFD'
		}
		return r
	}, s)
}

// short is at most n characters of s.
func short(s string, n int) string {
	s = clean(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// sizeText is a size for people.
func sizeText(n int64) string {
	switch {
	case n <= 0:
		return none
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}

// none stands where nothing was measured.
const none = "–"

// minus is v with the sign for people.
func minus(s string) string { return strings.Replace(s, "-", "−", 1) }

// fixed is v with so many decimals.
func fixed(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
	return minus(s)
}

// digits is how many decimals show v to so many significant digits.
func digits(v float64, significant int) int {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return min(max(0, significant-1-int(math.Floor(math.Log10(math.Abs(v))))), 8)
}

// rounded is v to three significant digits.
func rounded(v float64) string { return fixed(v, digits(v, 3)) }

// figure is an estimate as a cell shows it: the value, and its interval below.
type figure struct {
	Value, Interval string
}

// text is both on one line.
func (f figure) text() string {
	if f.Interval == "" {
		return f.Value
	}
	return f.Value + " (" + f.Interval + ")"
}

// span writes low and high.
func span(low, high string) string {
	if strings.ContainsAny(low+high, "−+") {
		return low + " to " + high
	}
	return low + "–" + high
}

// show is an estimate times scale, with decimals by its size, and a unit.
func show(e *Estimate, scale float64, unit string) figure {
	if !e.finite() {
		return figure{Value: none}
	}
	d := digits(e.Value*scale, 3)
	f := figure{Value: fixed(e.Value*scale, d) + unit}
	if e.hasInterval() {
		f.Interval = span(fixed(e.Low*scale, d), fixed(e.High*scale, d))
	}
	return f
}

// kl is a divergence, to the digit that its error leaves.
func klText(r *Row) figure {
	if r.Reference {
		return figure{Value: "reference"}
	}
	if !r.KL.finite() {
		return figure{Value: none}
	}
	d := 4
	if r.KL.Value > 0 && r.KL.Value < 0.001 {
		d = 6
	}
	f := figure{Value: fixed(r.KL.Value, d)}
	if r.KL.hasInterval() {
		f.Interval = "± " + fixed((r.KL.High-r.KL.Low)/2, d)
	}
	return f
}

// percent is a share in per cent, signed where it is a change.
func percent(e *Estimate, decimals int, signed bool) figure {
	if !e.finite() {
		return figure{Value: none}
	}
	write := func(v float64) string {
		s := fixed(100*v, decimals)
		if signed && v > 0 && strings.Trim(s, "0.") != "" {
			s = "+" + s
		}
		return s
	}
	f := figure{Value: write(e.Value) + " %"}
	if e.hasInterval() {
		f.Interval = span(write(e.Low), write(e.High))
	}
	return f
}

// lossText is a loss of perplexity or, without a reference, the perplexity.
func lossText(r *Row) figure {
	if r.Reference {
		return figure{Value: "reference"}
	}
	if r.Loss == nil && r.Perplexity.finite() {
		f := show(r.Perplexity, 1, "")
		f.Value = "perplexity " + f.Value
		return f
	}
	return percent(r.Loss, 2, true)
}

// questionsText is an accuracy.
func questionsText(r *Row) figure {
	if r.Questions == nil || r.Questions.Total.Of == 0 {
		return figure{Value: none}
	}
	return r.Questions.Total.text()
}

func (s Score) text() figure {
	if s.Of == 0 {
		return figure{Value: none}
	}
	f := percent(s.Accuracy, 1, false)
	f.Value = fmt.Sprintf("%d/%d = %s", s.Right, s.Of, f.Value)
	return f
}

// differenceText is the paired difference, in points of a hundred.
func differenceText(r *Row) figure {
	if r.Questions != nil && r.Questions.Reference {
		return figure{Value: "reference"}
	}
	if r.Questions == nil || r.Questions.Difference == nil {
		return figure{Value: none}
	}
	f := percent(r.Questions.Difference, 1, true)
	f.Value = strings.TrimSuffix(f.Value, " %")
	if f.Interval != "" {
		f.Interval += ", "
	}
	f.Interval += "p " + rounded(r.Questions.P)
	return f
}
