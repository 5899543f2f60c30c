package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// pair is a request as tokens.
type pair struct {
	context, continuation []int32
	cut                   int // tokens that had no room, from the left
}

// encodePair is lm-evaluation-harness's _encode_pair (lm_eval/api/model.py,
// 0.4.13): white space at the end of the context moves to the continuation, both
// are encoded together, and the tokens beyond as many as the context alone has
// are the continuation's. Special tokens are added as the tokenizer does, which
// is the harness's default.
func encodePair(tok *tokenizer.Tokenizer, r questions.Request) (pair, error) {
	o := tokenizer.EncodeOptions{AddSpecial: true}
	before := strings.TrimRightFunc(r.Context, unicode.IsSpace)
	if before == "" {
		return pair{}, fmt.Errorf("the context %q has no text", r.Context)
	}
	whole := tok.Encode(r.Context+r.Continuation, o)
	p := pair{context: tok.Encode(before, o)}
	if len(whole) <= len(p.context) {
		return pair{}, fmt.Errorf("%q after the context has no tokens of its own", r.Continuation)
	}
	p.continuation = whole[len(p.context):]
	return p, nil
}

// fit cuts the context from the left so that context and continuation without
// its last token fill a sequence of length limit at most, as the harness does.
func (p *pair) fit(limit int) error {
	over := len(p.context) + len(p.continuation) - (limit + 1)
	if limit <= 0 || over <= 0 {
		return nil
	}
	if over >= len(p.context) {
		return fmt.Errorf("a continuation of %d tokens does not fit the context of %d", len(p.continuation), limit)
	}
	p.context, p.cut = p.context[over:], over
	return nil
}

// likelihoods scores continuations. The sequence is begun anew, so that figures
// do not depend on what was asked before; a context that the next pair has too
// is evaluated once.
func likelihoods(ctx context.Context, s infer.Session, pairs []pair) ([]questions.Score, error) {
	if err := s.Truncate(0); err != nil {
		return nil, fmt.Errorf("begin a sequence: %w", err)
	}
	out := make([]questions.Score, len(pairs))
	var first []float32 // the logits behind the context
	for i, p := range pairs {
		if first == nil || !slices.Equal(s.Tokens(), p.context) {
			known, err := infer.Rewind(s, p.context)
			if err != nil {
				return nil, err
			}
			row, err := s.Eval(ctx, p.context[known:])
			if err != nil {
				return nil, err
			}
			first = append(first[:0], row...)
		}
		score := questions.Score{Tokens: len(p.continuation), Greedy: true}
		add := func(row []float32, token int32) error {
			l, greedy, err := logProbability(row, token)
			score.LogLikelihood += l
			score.Greedy = score.Greedy && greedy
			return err
		}
		if err := add(first, p.continuation[0]); err != nil {
			return nil, err
		}
		if err := follow(ctx, s, p.continuation, add); err != nil {
			return nil, err
		}
		if err := s.Truncate(len(p.context)); err != nil {
			return nil, fmt.Errorf("go back to the context: %w", err)
		}
		out[i] = score
	}
	return out, nil
}

// follow evaluates a continuation but for its last token and hands over each
// row with the token that follows it. Where the session gives rows of several
// tokens at once they are asked for so, else one by one.
func follow(ctx context.Context, s infer.Session, continuation []int32, add func(row []float32, token int32) error) error {
	for at := 0; at < len(continuation)-1; {
		n := min(s.Info().Rows, len(continuation)-1-at)
		if n < 2 {
			n = 1
			row, err := s.Eval(ctx, continuation[at:at+1])
			if err != nil {
				return err
			}
			if err := add(row, continuation[at+1]); err != nil {
				return err
			}
		} else if err := s.EvalAll(ctx, continuation[at:at+n], func(pos int, row []float32) error {
			return add(row, continuation[at+pos+1])
		}); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// logProbability is the natural logarithm of a token's probability, and whether
// no token is likelier.
func logProbability(row []float32, token int32) (l float64, greedy bool, err error) {
	if token < 0 || int(token) >= len(row) {
		return 0, false, fmt.Errorf("token %d has no logit: the model gives %d", token, len(row))
	}
	top := row[0]
	for _, x := range row {
		if x != x || math.IsInf(float64(x), 1) {
			return 0, false, fmt.Errorf("a logit is %v", x)
		}
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(float64(x) - float64(top))
	}
	l = float64(row[token]) - float64(top) - math.Log(sum)
	if math.IsInf(l, 0) || math.IsNaN(l) {
		return 0, false, fmt.Errorf("token %d is impossible to the model", token)
	}
	return min(l, 0), row[token] == top, nil
}
