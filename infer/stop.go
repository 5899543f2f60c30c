package infer

import "strings"

// stopMatcher withholds text that may be the beginning of a stop string until
// it is decided, so that a stop string is found across token borders and no
// part of it is ever shown.
type stopMatcher struct {
	stops   []string
	pending string
}

// push adds text and returns what is certain to belong to the answer. hit is
// the stop string found; of several the one that begins first, of those the
// longest.
func (m *stopMatcher) push(text string) (out, hit string) {
	if len(m.stops) == 0 {
		return text, ""
	}
	m.pending += text
	at := -1
	for _, s := range m.stops {
		i := strings.Index(m.pending, s)
		if i >= 0 && (at < 0 || i < at || (i == at && len(s) > len(hit))) {
			at, hit = i, s
		}
	}
	keep := len(m.pending)
	if at >= 0 {
		keep = at
	} else {
		keep -= m.open()
	}
	out = m.pending[:keep]
	m.pending = m.pending[keep:]
	return out, hit
}

// open is the length of the longest end of the pending text with which a stop
// string begins.
func (m *stopMatcher) open() int {
	longest := 0
	for _, s := range m.stops {
		for n := min(len(s)-1, len(m.pending)); n > longest; n-- {
			if strings.HasSuffix(m.pending, s[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}

// flush returns the text withheld, at the end of an answer that no stop
// string ended.
func (m *stopMatcher) flush() string {
	out := m.pending
	m.pending = ""
	return out
}
