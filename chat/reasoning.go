package chat

import "strings"

// Part is a piece of a streamed answer.
type Part struct {
	Text      string
	Reasoning bool // between <think> and </think>
}

// The tags around reasoning, as Qwen3, DeepSeek-R1 and their kin write them.
const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
)

// reasoningSplitter divides an answer into reasoning and content while it
// streams. Text that may be the beginning of a tag is withheld until it is
// decided. Only reasoning at the start of an answer counts: a tag later on is
// content.
type reasoningSplitter struct {
	state   splitState
	pending string
	// trim drops white space at the start of the part to come.
	trim bool
}

type splitState int

const (
	beforeReasoning splitState = iota
	inReasoning
	inContent
)

// newReasoningSplitter starts inside reasoning where the prompt already opened
// it.
func newReasoningSplitter(opened bool) *reasoningSplitter {
	s := &reasoningSplitter{}
	if opened {
		s.state, s.trim = inReasoning, true
	}
	return s
}

// push takes text of the answer and calls emit for what is decided.
func (s *reasoningSplitter) push(text string, emit func(Part)) {
	s.pending += text
	for s.step(emit) {
	}
}

// step decides what it can and reports whether the state changed.
func (s *reasoningSplitter) step(emit func(Part)) bool {
	if s.trim {
		s.pending = strings.TrimLeft(s.pending, " \t\r\n")
		if s.pending == "" {
			return false
		}
		s.trim = false
	}
	switch s.state {
	case beforeReasoning:
		start := strings.TrimLeft(s.pending, " \t\r\n")
		switch {
		case strings.HasPrefix(start, thinkOpen):
			s.pending, s.state, s.trim = start[len(thinkOpen):], inReasoning, true
			return true
		case strings.HasPrefix(thinkOpen, start):
			return false // also the empty text
		}
		s.state = inContent
		return true
	case inReasoning:
		before, after, found := strings.Cut(s.pending, thinkClose)
		if found {
			emitPart(emit, strings.TrimRight(before, " \t\r\n"), true)
			s.pending, s.state, s.trim = after, inContent, true
			return true
		}
		// White space before the tag is not part of the reasoning, so it waits
		// with what may be the tag.
		sure := len(s.pending) - openSuffix(s.pending, thinkClose)
		sure = len(strings.TrimRight(s.pending[:sure], " \t\r\n"))
		emitPart(emit, s.pending[:sure], true)
		s.pending = s.pending[sure:]
		return false
	}
	emitPart(emit, s.pending, false)
	s.pending = ""
	return false
}

// flush gives what is withheld at the end of an answer.
func (s *reasoningSplitter) flush(emit func(Part)) {
	emitPart(emit, s.pending, s.state == inReasoning)
	s.pending = ""
}

func emitPart(emit func(Part), text string, reasoning bool) {
	if text != "" {
		emit(Part{Text: text, Reasoning: reasoning})
	}
}

// openSuffix is the length of the longest end of s with which tag begins.
func openSuffix(s, tag string) int {
	for n := min(len(tag)-1, len(s)); n > 0; n-- {
		if strings.HasSuffix(s, tag[:n]) {
			return n
		}
	}
	return 0
}
