package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// SessionModel is an artifact that is run through package infer: one of a
// format whose own runtime computes it.
type SessionModel struct {
	Backend infer.Backend
	Folder  *modeldir.Folder
	// Tokenizer cuts the text where no reference logits do.
	Tokenizer *tokenizer.Tokenizer
}

// RunSession compares an artifact with a reference's logits as [Run] does, each
// window from an empty cache, with what its own runtime computes. With SaveLogits
// it is the reference: its logits are kept, and it is compared with nothing. Of
// the options Library, Reference, TempDir and Artifacts are not used. A model that
// does not fit the memory is an infer.FitError.
func RunSession(ctx context.Context, m SessionModel, o Options) (_ Result, err error) {
	dir := m.Folder.Dir
	defer func() {
		if err != nil {
			err = fmt.Errorf("verify %s: %w", dir, err)
		}
	}()
	o.Reference, o.Artifacts = "", []string{dir}
	if err := o.checkSave(); err != nil {
		return Result{}, err
	}
	v := &verifier{Options: o, models: 1, text: func(string) (*modeldir.Folder, *tokenizer.Tokenizer, error) { return m.Folder, m.Tokenizer, nil }}
	if err := v.prepare(ctx); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, v.forget()) }()
	longest := 0
	for _, w := range v.windows {
		longest = max(longest, w.Last-w.Start)
	}
	s, err := m.Backend.Open(ctx, m.Folder, infer.OpenOptions{Context: longest, Threads: o.Threads, AllLogits: true})
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	acc, err := v.compare(v.keeping(dir, func(each eachRow) error { return v.sessionRows(ctx, s, each) }), nil)
	if err != nil {
		return Result{}, err
	}
	r := Result{Dir: dir, Figures: acc.Result()}
	r.Fidelity = v.fidelity(r.Figures, SessionArithmetic(s.Info()))
	return r, nil
}

// SessionArithmetic names what computes a session: "llama.cpp v0.5.0 on CPU".
func SessionArithmetic(i infer.Info) string {
	return fmt.Sprintf("%s v%s on %s", i.Backend, i.Version, i.Provider)
}

// sessionTicks is how many rows pass between two reports of progress.
const sessionTicks = 16

// sessionRows hands over the rows of all windows that count, in order.
func (v *verifier) sessionRows(ctx context.Context, s infer.Session, each eachRow) error {
	tick := v.tick(fidelity.Rows(v.windows)/sessionTicks + 1)
	rows := 0
	for _, w := range v.windows {
		if err := s.Truncate(0); err != nil {
			return fmt.Errorf("begin the window at token %d: %w", w.Start, err)
		}
		err := s.EvalAll(ctx, v.tokens[w.Start:w.Last], func(pos int, row []float32) error {
			if pos += w.Start; pos < w.First {
				return nil
			}
			if rows++; tick != nil && rows%sessionTicks == 0 {
				tick()
			}
			return each(w, pos, row)
		})
		if err != nil {
			return fmt.Errorf("run the window at token %d: %w", w.Start, err)
		}
	}
	return nil
}
