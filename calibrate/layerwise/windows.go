package layerwise

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Window is the usual length of a window of calibration text, in tokens.
const Window = 512

// Cut takes windows of equal length out of a tokenized text: tokens in all, or
// as many whole windows as there are. Where the text is longer, seed draws
// which windows, spread over all of it and in its order. prefix, such as a
// beginning-of-sequence id, starts every window. A text shorter than a window
// is one shorter window.
func Cut(ids, prefix []int32, tokens int, seed uint64) ([][]int32, error) {
	length := min(Window, tokens)
	body := length - len(prefix)
	if len(ids) < body {
		body = len(ids)
	}
	if body < 8 {
		return nil, fmt.Errorf("%d tokens of text are too few to calibrate with", len(ids))
	}
	slots := len(ids) / body
	order := rand.New(rand.NewPCG(seed, 0)).Perm(slots)
	order = order[:min(slots, max(1, tokens/length))]
	slices.Sort(order)
	var out [][]int32
	for _, s := range order {
		out = append(out, slices.Concat(prefix, ids[s*body:(s+1)*body]))
	}
	return out, nil
}
