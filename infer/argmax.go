package infer

import (
	"errors"
	"fmt"
	"math"
)

// NaNError says that a model produced a logit that is no number.
type NaNError struct{ ID int }

func (e *NaNError) Error() string {
	return fmt.Sprintf("the model's logit of token %d is not a number: its weights are damaged or an fp16 value overflowed; try another recipe or precision", e.ID)
}

// errNoToken says that every logit is -Inf.
var errNoToken = errors.New("no token is left to choose from: every logit is -Inf")

// argmax returns the index of the largest logit, the first among equals.
//
// One comparison a logit, true for both "larger" and "NaN", keeps the loop at
// one well-predicted branch an element; it runs once a token over the whole
// vocabulary.
func argmax(logits []float32) (int, error) {
	best, at := float32(math.Inf(-1)), -1
	i := 0
	for ; i+8 <= len(logits); i += 8 {
		l := logits[i : i+8 : i+8]
		if l[0] <= best && l[1] <= best && l[2] <= best && l[3] <= best &&
			l[4] <= best && l[5] <= best && l[6] <= best && l[7] <= best {
			continue
		}
		for j, v := range l {
			if v > best {
				best, at = v, i+j
			} else if v != v {
				return 0, &NaNError{ID: i + j}
			}
		}
	}
	for ; i < len(logits); i++ {
		if v := logits[i]; v > best {
			best, at = v, i
		} else if v != v {
			return 0, &NaNError{ID: i}
		}
	}
	if at < 0 {
		return 0, errNoToken
	}
	return at, nil
}
