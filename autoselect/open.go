package autoselect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Failure is a choice that could not be used.
type Failure struct {
	Choice Choice
	Err    error
}

// FailedError says that no choice of a plan could be used.
type FailedError struct {
	Plan   Plan
	Failed []Failure
}

func (e *FailedError) Error() string {
	var parts []string
	for _, f := range e.Failed {
		parts = append(parts, fmt.Sprintf("%s: %v", f.Choice, f.Err))
	}
	for _, l := range e.Plan.LeftOut {
		parts = append(parts, fmt.Sprintf("%s: %s", l.Runtime, l.Why))
	}
	return "nothing here can run the model. " + strings.Join(parts, "; ")
}

// Unwrap lists the errors of the choices.
func (e *FailedError) Unwrap() []error {
	var list []error
	for _, f := range e.Failed {
		list = append(list, f.Err)
	}
	return list
}

// First opens the choices of a plan in turn until one opens, and returns which
// it was and what failed before. warn, if not nil, hears of each failure. Where
// the user made the choice the first failure is the end.
func First[T any](ctx context.Context, p Plan, open func(context.Context, Choice) (T, error), warn func(Failure, Choice)) (T, Choice, error) {
	var none T
	var failed []Failure
	for i, c := range p.Choices {
		v, err := open(ctx, c)
		if err == nil {
			return v, c, nil
		}
		if ctx.Err() != nil {
			return none, c, err
		}
		failed = append(failed, Failure{c, err})
		if p.Forced {
			break
		}
		if warn != nil && i+1 < len(p.Choices) {
			warn(failed[len(failed)-1], p.Choices[i+1])
		}
	}
	if len(failed) == 1 && len(p.Choices) == 1 {
		return none, failed[0].Choice, failed[0].Err
	}
	return none, Choice{}, &FailedError{Plan: p, Failed: failed}
}

// Trials remembers in a folder which choice was fastest.
type Trials struct {
	// Dir is below the product's cache folder; "" remembers nothing.
	Dir string
}

// record is what a file of Dir holds.
type record struct {
	Machine string             `json:"machine"`
	Model   string             `json:"model"`
	When    time.Time          `json:"when"`
	Rates   map[string]float64 `json:"tokens_per_second"` // by key of the choice
	Failed  map[string]string  `json:"failed,omitempty"`
}

// key of a choice in a record.
func (c Choice) key() string { return string(c.Runtime) + " " + c.Artifact.Path }

// file is where the outcome for a machine and a model lies: another processor,
// library version or artifact is another file.
func (t Trials) file(m Machine, model string, p Plan) string {
	h := sha256.New()
	fmt.Fprintln(h, m.OS, m.Arch, m.CPU, m.Features, m.Cores)
	fmt.Fprintln(h, model)
	for _, c := range p.Choices[:p.Trial] {
		fmt.Fprintln(h, c.key(), c.Artifact.Bytes, c.Artifact.SHA256)
	}
	return filepath.Join(t.Dir, "autoselect", hex.EncodeToString(h.Sum(nil)[:12])+".json")
}

// Settle puts the choices that are tried against each other into the order of
// their speed: as remembered, else as measure finds, which returns tokens per
// second. model tells models apart, such as the folder's path. The plan comes
// back with Why saying what was measured. Choices that fail are last, with their
// failure in Why.
func (t Trials) Settle(ctx context.Context, m Machine, model string, p Plan, measure func(context.Context, Choice) (float64, error)) (Plan, error) {
	if p.Trial < 2 {
		return p, nil
	}
	r, known := t.read(m, model, p)
	if !known {
		r = record{Machine: m.String(), Model: model, When: time.Now().UTC(), Rates: map[string]float64{}, Failed: map[string]string{}}
		for _, c := range p.Choices[:p.Trial] {
			rate, err := measure(ctx, c)
			if ctx.Err() != nil {
				return p, context.Cause(ctx)
			}
			if err != nil {
				r.Failed[c.key()] = err.Error()
				continue
			}
			r.Rates[c.key()] = rate
		}
		// Not being able to remember costs a trial next time, no more. Failures
		// are not remembered: what is missing may be installed.
		if len(r.Failed) == 0 {
			_ = t.write(m, model, p, r)
		}
	}
	tried := slices.Clone(p.Choices[:p.Trial])
	slices.SortStableFunc(tried, func(a, b Choice) int {
		switch ra, rb := r.Rates[a.key()], r.Rates[b.key()]; {
		case ra > rb:
			return -1
		case ra < rb:
			return 1
		}
		return 0
	})
	for i, c := range tried {
		when := "in a trial"
		if known {
			when = "in a trial of " + r.When.Format(time.DateOnly)
		}
		if why := r.Failed[c.key()]; why != "" {
			tried[i].Why = "failed " + when + ": " + why
			continue
		}
		tried[i].Why = strconv.FormatFloat(r.Rates[c.key()], 'f', 1, 64) + " tokens/s " + when
	}
	p.Choices = append(tried, p.Choices[p.Trial:]...)
	return p, nil
}

func (t Trials) read(m Machine, model string, p Plan) (record, bool) {
	if t.Dir == "" {
		return record{}, false
	}
	data, err := os.ReadFile(t.file(m, model, p))
	if err != nil {
		return record{}, false
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, false
	}
	for _, c := range p.Choices[:p.Trial] {
		if !(r.Rates[c.key()] > 0) {
			return record{}, false
		}
	}
	return r, true
}

func (t Trials) write(m Machine, model string, p Plan, r record) error {
	if t.Dir == "" {
		return errors.New("no folder")
	}
	file := t.file(m, model, p)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".trial-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// Explain is the list that --explain prints: the choices in order and what was
// left out.
func (p Plan) Explain() string {
	var b strings.Builder
	for i, c := range p.Choices {
		fmt.Fprintf(&b, "%d. %s: %s", i+1, c, c.Why)
		if c.Rate > 0 {
			fmt.Fprintf(&b, "; the memory allows %.0f tokens/s at most", c.Rate)
		}
		b.WriteString("\n")
	}
	for _, l := range p.LeftOut {
		fmt.Fprintf(&b, "-  %s: %s\n", l.Runtime, l.Why)
	}
	return b.String()
}
