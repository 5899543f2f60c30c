package infer

// history counts the tokens the penalties look at.
type history struct {
	window int // 0: all
	recent []entry
	count  map[int32]counts
}

type entry struct {
	id     int32
	answer bool
}

// counts of a token inside the window.
type counts struct{ all, answer int32 }

// add appends tokens and lets those before the window fall out.
func (h *history) add(ids []int32, answer bool) {
	if h.count == nil {
		h.count = map[int32]counts{}
	}
	for _, id := range ids {
		h.change(entry{id, answer}, 1)
		if h.window == 0 {
			continue
		}
		h.recent = append(h.recent, entry{id, answer})
		if len(h.recent) > h.window {
			h.change(h.recent[0], -1)
			h.recent = h.recent[1:] // append moves the rest when the room ends
		}
	}
}

func (h *history) change(e entry, by int32) {
	c := h.count[e.id]
	c.all += by
	if e.answer {
		c.answer += by
	}
	if c == (counts{}) {
		delete(h.count, e.id)
		return
	}
	h.count[e.id] = c
}

// penalize lowers the logits of the tokens seen; ids beyond the row are
// skipped. The order of the map does not matter: each token is changed once.
func (h *history) penalize(logits []float32, o *SamplerOptions) {
	rep := float32(o.RepetitionPenalty)
	for id, c := range h.count {
		if id < 0 || int(id) >= len(logits) {
			continue
		}
		v := logits[id]
		if rep != 0 && rep != 1 {
			if v > 0 {
				v /= rep
			} else {
				v *= rep
			}
		}
		if c.answer > 0 {
			v -= float32(float32(o.PresencePenalty) + float32(float32(o.FrequencyPenalty)*float32(c.answer)))
		}
		logits[id] = v
	}
}
