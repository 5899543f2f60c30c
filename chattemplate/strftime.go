package chattemplate

import (
	"fmt"
	"strings"
	"time"
)

// strftime is Python's datetime.strftime on a naive time, in the C locale, with
// the directives and flags of the GNU C library. Unknown directives stay as
// they are.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		flag := byte(0)
		for i < len(format) && strings.IndexByte("-_0^#", format[i]) >= 0 {
			flag = format[i]
			i++
		}
		text, ok := "", false
		if i < len(format) {
			text, ok = strftimeField(format[i], flag, t)
		}
		if !ok {
			b.WriteString(format[start:min(i+1, len(format))])
			continue
		}
		switch {
		case flag == '#' && format[i] == 'p':
			text = strings.ToLower(text)
		case flag == '^' || flag == '#':
			text = strings.ToUpper(text)
		}
		b.WriteString(text)
	}
	return b.String()
}

// strftimeField formats one directive; ok is false for an unknown one.
func strftimeField(c, flag byte, t time.Time) (text string, ok bool) {
	num := func(n, width int, pad byte) (string, bool) {
		switch flag {
		case '-':
			return fmt.Sprint(n), true
		case '_':
			pad = ' '
		case '0':
			pad = '0'
		}
		if pad == ' ' {
			return fmt.Sprintf("%*d", width, n), true
		}
		return fmt.Sprintf("%0*d", width, n), true
	}
	hour12 := (t.Hour()+11)%12 + 1
	isoYear, isoWeek := t.ISOWeek()
	mondayBased := (int(t.Weekday()) + 6) % 7
	switch c {
	case 'a', 'A', 'b', 'B', 'h', 'p', 'P', 'c', 'x', 'X', 'D', 'F', 'T', 'R', 'r', 'n', 't', '%', 'z', 'Z':
		return strftimeText(c, t), true
	case 'd':
		return num(t.Day(), 2, '0')
	case 'e':
		return num(t.Day(), 2, ' ')
	case 'm':
		return num(int(t.Month()), 2, '0')
	case 'y':
		return num(t.Year()%100, 2, '0')
	case 'Y':
		return num(t.Year(), 1, '0')
	case 'C':
		return num(t.Year()/100, 2, '0')
	case 'G':
		return num(isoYear, 1, '0')
	case 'g':
		return num(isoYear%100, 2, '0')
	case 'V':
		return num(isoWeek, 2, '0')
	case 'H':
		return num(t.Hour(), 2, '0')
	case 'k':
		return num(t.Hour(), 2, ' ')
	case 'I':
		return num(hour12, 2, '0')
	case 'l':
		return num(hour12, 2, ' ')
	case 'M':
		return num(t.Minute(), 2, '0')
	case 'S':
		return num(t.Second(), 2, '0')
	case 'f':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000), true
	case 'j':
		return num(t.YearDay(), 3, '0')
	case 'u':
		return num(mondayBased+1, 1, '0')
	case 'w':
		return num(int(t.Weekday()), 1, '0')
	case 'U':
		return num((t.YearDay()+6-int(t.Weekday()))/7, 2, '0')
	case 'W':
		return num((t.YearDay()+6-mondayBased)/7, 2, '0')
	case 's':
		return fmt.Sprint(t.Unix()), true
	}
	return "", false
}

// strftimeText formats the directives that are words or whole layouts.
func strftimeText(c byte, t time.Time) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case '%':
		return "%"
	case 'z', 'Z':
		return "" // datetime.now() carries no zone
	}
	return t.Format(map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'p': "PM", 'P': "pm",
		'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
		'D': "01/02/06", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'r': "03:04:05 PM",
	}[c])
}
