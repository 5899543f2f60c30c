package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Difference is one in which two reports must agree to be compared.
type Difference struct{ What, Old, New string }

// DifferentError says why two reports are not compared.
type DifferentError struct{ Differences []Difference }

func (e *DifferentError) Error() string {
	var parts []string
	for _, d := range e.Differences {
		parts = append(parts, fmt.Sprintf("%s was %s and is %s", d.What, d.Old, d.New))
	}
	return "the two runs cannot be compared: " + strings.Join(parts, "; ")
}

// Comparable returns a DifferentError where the reports are of different
// settings, models or machines. Runtimes may differ: to compare two of them is
// a good reason to measure twice.
func Comparable(old, now *Report) error {
	e := &DifferentError{}
	differ := func(what string, a, b any) {
		x, y := fmt.Sprint(a), fmt.Sprint(b)
		if x == "" {
			x = "not told"
		}
		if y == "" {
			y = "not told"
		}
		if x != y {
			e.Differences = append(e.Differences, Difference{what, x, y})
		}
	}
	differ("the way of measuring (bench_version)", old.Version, now.Version)
	differ("the model", old.Model, now.Model)
	a, b := old.Settings, now.Settings
	differ("--prompt", a.Prompt, b.Prompt)
	differ("--generate", a.Generate, b.Generate)
	differ("--repetitions", a.Repetitions, b.Repetitions)
	differ("--loads", a.Loads, b.Loads)
	differ("--threads", a.Threads, b.Threads)
	m, n := old.Machine, now.Machine
	differ("the system", m.System, n.System)
	differ("the processor", m.CPU, n.CPU)
	differ("its features", m.Features, n.Features)
	differ("the number of cores", m.Cores, n.Cores)
	differ("the memory", size(int64(m.Memory)), size(int64(n.Memory)))
	differ("the devices", strings.Join(m.Devices, ", "), strings.Join(n.Devices, ", "))
	if len(e.Differences) == 0 {
		return nil
	}
	return e
}

// Ratio divides two figures. Where both have the same number of samples, of
// rounds that took turns, each pair is divided; else the interval is the widest
// that both intervals allow. nil where one is missing.
func Ratio(over, under *Stat) *Stat {
	if over == nil || under == nil || under.Low <= 0 {
		return nil
	}
	if len(over.Samples) == len(under.Samples) && len(over.Samples) > 0 {
		pairs := make([]float64, len(over.Samples))
		for i := range pairs {
			pairs[i] = over.Samples[i] / under.Samples[i]
		}
		return newStat(pairs)
	}
	return apart(over, under)
}

// apart divides figures that were not measured in turns.
func apart(over, under *Stat) *Stat {
	return &Stat{
		Median: over.Median / under.Median, Low: over.Low / under.High, High: over.High / under.Low,
		Coverage: over.Coverage * under.Coverage,
	}
}

// WriteChanges writes how the figures of two reports differ, after Comparable has
// found nothing against it. The runs were not made in turns, so the interval of a
// change is the widest that both intervals allow.
func WriteChanges(w io.Writer, old, now *Report) error {
	if err := Comparable(old, now); err != nil {
		return err
	}
	t := table{head: []string{"artifact", "prefill", "decode", "first token", "token p95", "memory", "size"}}
	var remarks []string
	for i := range now.Artifacts {
		m := &now.Artifacts[i]
		at := slices.IndexFunc(old.Artifacts, func(o Measured) bool { return o.Artifact == m.Artifact })
		if at < 0 {
			remarks = append(remarks, m.Artifact+" is new")
			continue
		}
		o := &old.Artifacts[at]
		if m.Decode == nil || o.Decode == nil {
			continue
		}
		row := []string{m.Artifact, change(m.Prefill, o.Prefill), change(m.Decode, o.Decode), change(m.FirstToken, o.FirstToken)}
		row = append(row, change(m.Gaps.P95.stat(), o.Gaps.P95.stat()), factor(m.PeakMemory, o.PeakMemory), factor(m.Bytes, o.Bytes))
		t.rows = append(t.rows, row)
		if a, b := o.Runtime+", "+o.Provider, m.Runtime+", "+m.Provider; a != b {
			remarks = append(remarks, fmt.Sprintf("%s ran on %s, now on %s", m.Artifact, a, b))
		}
	}
	for _, o := range old.Artifacts {
		if !slices.ContainsFunc(now.Artifacts, func(m Measured) bool { return m.Artifact == o.Artifact }) {
			remarks = append(remarks, o.Artifact+" was there and is not now")
		}
	}
	for _, r := range []*Report{old, now} {
		if b := r.Machine.Busy; b != nil && b.Median > busyLimit {
			remarks = append(remarks, fmt.Sprintf("warning: the machine was busy in the run of %s", r.Date.Format("2006-01-02 15:04")))
		}
	}
	remarks = append(remarks, "= means that the intervals overlap: no change was shown")
	fmt.Fprintf(w, "against the run of %s (now / then)\n", old.Date.Format("2006-01-02 15:04 MST"))
	if err := t.text(w); err != nil {
		return err
	}
	return lines(w, remarks)
}

// change is a factor with its interval, "=" where that holds 1.
func change(now, old *Stat) string {
	if now == nil || old == nil || old.Low <= 0 {
		return "-"
	}
	r := apart(now, old)
	text := fmt.Sprintf("× %.2f (%.2f–%.2f)", r.Median, r.Low, r.High)
	if r.Low <= 1 && r.High >= 1 {
		text += " ="
	}
	return text
}

func factor(now, old int64) string {
	if now <= 0 || old <= 0 {
		return "-"
	}
	return fmt.Sprintf("× %.2f", float64(now)/float64(old))
}
