package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
)

// Artifact is one to measure.
type Artifact struct {
	Measured
	// Path is the artifact's folder, or the GGUF file.
	Path string
	// Description is the first line that a worker gets; nil where the artifact
	// cannot be run, for the reason in Error.
	Description any
}

// Options of a run.
type Options struct {
	Program   string // with its version, for the report
	Model     string
	Settings  Settings
	Artifacts []Artifact
	// Worker is the command that runs [Serve].
	Worker []string
	// Bandwidth measures what so many threads read of the main memory, in bytes per
	// second; nil leaves the rooflines out.
	Bandwidth func(ctx context.Context, threads int) float64
	// Device gives what is known of the bandwidth of a machine whose accelerator
	// computes, and where from; nil knows nothing.
	Device func() (bandwidth float64, source string)
	// Baseline, if not nil, is a report that this run must be comparable with; else
	// nothing is measured and the error is a DifferentError.
	Baseline *Report
	// Progress, if not nil, hears what is done next, which share of the work is
	// done, and how long the rest will take, 0 where that is not known yet.
	Progress func(what string, share float64, left time.Duration)
}

// Limits of the settings.
const (
	DefaultPrompt      = 512
	DefaultGenerate    = 128
	DefaultRepetitions = 5
	DefaultLoads       = 3

	warmUpTokens = 8
)

// Check refuses settings that measure nothing.
func (s Settings) Check() error {
	switch {
	case s.Prompt < 1:
		return fmt.Errorf("a prompt of %d tokens: want 1 or more", s.Prompt)
	case s.Generate < 2:
		return fmt.Errorf("%d tokens to generate: want 2 or more, as times between tokens are measured", s.Generate)
	case s.Repetitions < 1:
		return fmt.Errorf("%d repetitions: want 1 or more", s.Repetitions)
	case s.Loads < 0:
		return fmt.Errorf("%d loads: want 0 or more", s.Loads)
	case s.Threads < 1:
		return fmt.Errorf("%d threads: want 1 or more", s.Threads)
	}
	return nil
}

// Run measures artifacts, each in processes of its own, which take turns: first
// loads, from the disk and from memory, then a round to warm up, then rounds
// that count, each in another order. What fails of one artifact ends its row
// alone.
//
// The processes stay loaded between rounds where all fit the free memory
// together; else each round begins with a load and a warm-up. When ctx ends so do
// they, and Run returns the context's cause.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Settings.Check(); err != nil {
		return nil, fmt.Errorf("benchmark: %w", err)
	}
	r := &runner{o: o, watch: newLoad(), took: map[string][]float64{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // no process outlives the run
	for i := range o.Artifacts {
		a := &o.Artifacts[i]
		r.rows = append(r.rows, &row{Artifact: a, m: a.Measured})
	}
	defer r.close()
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	return r.report, nil
}

// row is an artifact being measured.
type row struct {
	*Artifact
	m           Measured
	w           *worker
	description json.RawMessage
	opened      opened
	cold, warm  []float64
	notCold     string // why there is no cold load
	passes      []pass
	busy        []float64
	expect      float64 // seconds of a round, from the warm-up
}

// fails ends the row.
func (r *row) fails(err error) { r.m.Error = shorten(err.Error(), r.Path, r.m.Artifact) }

// shorten writes an artifact's name for its path in a message.
func shorten(text, path, name string) string {
	if path == "" || name == "" {
		return text
	}
	return strings.ReplaceAll(text, path, name)
}

type runner struct {
	o      Options
	rows   []*row
	keep   bool
	watch  load
	report *Report

	steps, done int
	took        map[string][]float64 // seconds, by kind of step and artifact
}

func (r *runner) close() {
	for _, row := range r.rows {
		if row.w != nil {
			row.w.cmd.Process.Kill()
			_ = row.w.cmd.Wait()
			row.w = nil
		}
	}
}

func (r *runner) run(ctx context.Context) error {
	s := r.o.Settings
	r.report = &Report{
		Version: Version, Program: r.o.Program, Date: time.Now().UTC().Truncate(time.Second), Model: r.o.Model,
		Settings: s, Machine: describeMachine(ctx),
	}
	if r.o.Baseline != nil {
		if err := Comparable(r.o.Baseline, r.report); err != nil {
			return err
		}
	}
	for _, row := range r.rows {
		if row.m.Error == "" {
			var err error
			if row.description, err = json.Marshal(row.Description); err != nil {
				return err
			}
		}
	}
	_, missing := hardware.EnergyCounters()
	before := readThrottle(os.DirFS("/"))
	bandwidth := 0.0
	measureBandwidth := func() { // again and again: others may be using it at any one time
		if r.o.Bandwidth != nil && ctx.Err() == nil {
			bandwidth = max(bandwidth, r.o.Bandwidth(ctx, s.Threads))
		}
	}
	measureBandwidth()
	r.keep = r.fits(ctx)
	r.steps = len(r.rows) * (2*s.Loads + 1 + s.Repetitions)
	for turn := range max(s.Loads, 1) {
		for _, row := range r.order(turn) {
			if err := r.loads(ctx, row, turn); err != nil {
				return err
			}
		}
	}
	for turn := range s.Repetitions + 1 {
		measureBandwidth()
		for _, row := range r.order(turn) {
			if err := r.round(ctx, row, turn); err != nil {
				return err
			}
		}
	}
	for _, row := range r.rows {
		if row.w != nil {
			if err := row.w.end(ctx, nil); err != nil && row.m.Error == "" && ctx.Err() == nil {
				row.m.Notes = append(row.m.Notes, shorten(err.Error(), row.Path, row.m.Artifact))
			}
			row.w = nil
		}
	}
	measureBandwidth()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.report.Machine.Bandwidth = bandwidth
	r.report.Machine.Throttled = readThrottle(os.DirFS("/")).since(before)
	r.finish(missing)
	return nil
}

// order is the rows of a turn: each pair of turns begins one further, the second of
// it goes backwards, so that nobody is always first, nor always behind the same.
func (r *runner) order(turn int) []*row {
	n := len(r.rows)
	out := make([]*row, n)
	for i := range out {
		out[i] = r.rows[(i+turn/2)%n]
	}
	if turn%2 == 1 {
		slices.Reverse(out)
	}
	return out
}

// fits reports whether all artifacts can stay loaded: twice their weights, as
// some runtimes keep weights in a form of their own, within most of the free
// memory.
func (r *runner) fits(ctx context.Context) bool {
	mem, err := hardware.DetectMemory(ctx)
	if err != nil {
		return len(r.rows) == 1
	}
	var need int64
	for _, row := range r.rows {
		if row.m.Error == "" {
			need += 2*row.m.Bytes + 256<<20
		}
	}
	return len(r.rows) == 1 || need < int64(mem.Available)*7/10
}

// loads measures a cold and a warm load, of which the last stays where rows are
// kept.
func (r *runner) loads(ctx context.Context, row *row, turn int) error {
	s := r.o.Settings
	last := turn >= s.Loads-1
	if s.Loads > 0 {
		if err := r.cold(ctx, row, turn); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("load %d of %d, warm", turn+1, s.Loads)
	return r.step(ctx, row, "load", what, s.Loads > 0, func() error {
		if err := r.open(ctx, row); err != nil {
			return err
		}
		if s.Loads > 0 {
			row.warm = append(row.warm, row.opened.Load)
		}
		if last && r.keep {
			return nil
		}
		return r.shut(ctx, row)
	})
}

func (r *runner) cold(ctx context.Context, row *row, turn int) error {
	what := fmt.Sprintf("load %d of %d, from disk", turn+1, r.o.Settings.Loads)
	return r.step(ctx, row, "cold", what, true, func() error {
		if row.notCold != "" {
			return nil
		}
		files, err := filesOf(row.Path)
		if err == nil {
			err = dropCache(files)
		}
		if err != nil {
			row.notCold, row.cold = shorten(err.Error(), row.Path, row.m.Artifact), nil
			return nil
		}
		if err := r.open(ctx, row); err != nil {
			return err
		}
		row.cold = append(row.cold, row.opened.Load)
		return r.shut(ctx, row)
	})
}

// filesOf lists the files of an artifact.
func filesOf(path string) (files []string, err error) {
	if before, after, ok := strings.Cut(path, "-00001-of-"); ok {
		return filepath.Glob(globEscape.Replace(before) + "-?????-of-" + globEscape.Replace(after))
	}
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	return files, err
}

func (r *runner) open(ctx context.Context, row *row) error {
	w, err := start(ctx, r.o.Worker, row.description)
	if err != nil {
		return err
	}
	row.w, row.opened = w, w.opened
	return nil
}

func (r *runner) shut(ctx context.Context, row *row) error {
	w := row.w
	row.w = nil
	return w.end(ctx, nil)
}

// round warms up in turn 0, and measures in the others.
func (r *runner) round(ctx context.Context, row *row, turn int) error {
	s := r.o.Settings
	what, kind := fmt.Sprintf("round %d of %d", turn, s.Repetitions), "round"
	if turn == 0 {
		what, kind = "warming up", "warm-up"
	}
	return r.step(ctx, row, kind, what, true, func() error {
		if turn == 0 && !r.keep {
			return nil // each round has its own
		}
		warm := request{Prompt: s.Prompt, Generate: min(warmUpTokens, s.Generate)}
		if !r.keep {
			if err := r.open(ctx, row); err != nil {
				return err
			}
		}
		if turn == 0 || !r.keep {
			p, err := row.w.pass(ctx, warm)
			if err != nil {
				return err
			}
			row.expect = p.FirstToken
			if len(p.Gaps) > 0 {
				row.expect += p.decode() / float64(len(p.Gaps)) * float64(s.Generate-1)
			}
		}
		if turn > 0 {
			share := r.watch.start(ctx, row.w.cmd.Process.Pid)
			p, err := row.w.pass(ctx, request{Prompt: s.Prompt, Generate: s.Generate})
			if err != nil {
				return err
			}
			row.passes, row.busy = append(row.passes, p), append(row.busy, share())
		}
		if !r.keep {
			return r.shut(ctx, row)
		}
		return nil
	})
}

// step does one step of a row that has not failed and tells the progress. Only
// the end of ctx is an error.
func (r *runner) step(ctx context.Context, row *row, kind, what string, counts bool, do func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if row.m.Error == "" {
		r.tell(row.m.Artifact + ": " + what)
		began := time.Now()
		if err := do(); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if row.w != nil {
				err = row.w.end(ctx, err)
				row.w = nil
			}
			row.fails(err)
		}
		r.took[kind] = append(r.took[kind], time.Since(began).Seconds())
	}
	if counts {
		r.done++
	}
	return nil
}

// tell estimates what is left from the steps of each kind so far, and rounds from
// the warm-up before there was one.
func (r *runner) tell(what string) {
	if r.o.Progress == nil {
		return
	}
	s := r.o.Settings
	alive, expect := 0, []float64{}
	for _, row := range r.rows {
		if row.m.Error == "" {
			alive++
		}
		if row.expect > 0 {
			expect = append(expect, row.expect)
		}
	}
	left := 0.0
	for kind, each := range map[string]int{"cold": s.Loads, "load": s.Loads, "warm-up": 1, "round": s.Repetitions} {
		took := r.took[kind]
		todo := float64(max(0, each*alive-len(took)))
		switch {
		case todo == 0:
		case len(took) > 0:
			left += todo * sum(took) / float64(len(took))
		case kind == "round" && len(expect) > 0:
			left += todo * sum(expect) / float64(len(expect))
		default: // not known yet
			left = math.NaN()
		}
	}
	if math.IsNaN(left) {
		left = 0
	}
	r.o.Progress(what, float64(r.done)/float64(max(r.steps, 1)), time.Duration(left*float64(time.Second)))
}

func sum(x []float64) (s float64) {
	for _, v := range x {
		s += v
	}
	return s
}

// finish makes rows of what was measured.
func (r *runner) finish(missing []string) {
	rep, s := r.report, r.o.Settings
	var busy []float64
	energy := false
	for _, row := range r.rows {
		m := row.figures(s)
		if m.Decode != nil {
			weights, err := WeightsRead(m.Format, row.Path)
			bandwidth, source := rep.Machine.Bandwidth, fmt.Sprintf("measured here with %d threads", s.Threads)
			if !onCPU(m.Provider) {
				bandwidth, source = 0, ""
				if r.o.Device != nil {
					bandwidth, source = r.o.Device()
				}
			}
			switch {
			case err != nil:
				m.Notes = append(m.Notes, "no roofline: "+shorten(err.Error(), row.Path, m.Artifact))
			case bandwidth == 0 && !onCPU(m.Provider):
				m.Notes = append(m.Notes, "no roofline: the memory bandwidth of what computes is not known")
			default:
				m.Roofline = NewRoofline(m.Decode.Median, weights, m.CacheBytes, s.Prompt, s.Generate, bandwidth, source)
			}
			if limit := m.Roofline; limit != nil && limit.Share > 1 {
				m.Notes = append(m.Notes, "faster than its ceiling: weights stay in the processor's caches from one token to the next, or the bandwidth was measured while others used it")
			}
		}
		energy = energy || m.Energy != nil
		busy = append(busy, row.busy...)
		rep.Artifacts = append(rep.Artifacts, m)
	}
	slices.SortStableFunc(rep.Artifacts, func(a, b Measured) int { return strings.Compare(a.Artifact, b.Artifact) })
	if !energy {
		rep.Notes = append(rep.Notes, "energy was not measured: "+strings.Join(missing, "; "))
	}
	if !r.keep {
		rep.Notes = append(rep.Notes, "the artifacts together do not fit the free memory: each was loaded and warmed up anew for every round")
	}
	var warm groups
	for _, row := range r.rows {
		if row.notCold != "" && s.Loads > 0 {
			warm.add(row.notCold, row.m.Artifact)
		}
	}
	for _, g := range warm {
		which := ""
		if len(g.names) < len(r.rows) {
			which = " of " + strings.Join(g.names, ", ")
		}
		rep.Notes = append(rep.Notes, "loads from disk"+which+" were not measured: "+g.key)
	}
	rep.Machine.Busy = newStat(busy)
	rep.Warnings = append(rep.Warnings, warnings(rep)...)
}

// warnings say what makes figures doubtful.
func warnings(rep *Report) (out []string) {
	if b := rep.Machine.Busy; b != nil {
		worst := slices.Max(b.Samples)
		switch {
		case b.Median > busyLimit:
			out = append(out, fmt.Sprintf("the machine was busy: other programs used %.0f %% of the cores (in the median of the rounds, %.0f %% at most); compare nothing that differs by less than the intervals", 100*b.Median, 100*worst))
		case worst > 2*busyLimit:
			out = append(out, fmt.Sprintf("the machine was busy in some rounds: other programs used up to %.0f %% of the cores", 100*worst))
		}
	}
	if rep.Machine.Throttled != "" {
		out = append(out, rep.Machine.Throttled+": the figures are of a machine slowed down")
	}
	if n := rep.Settings.Repetitions; n < 6 {
		_, _, coverage := bracket(n, 0.5)
		if n == 1 {
			out = append(out, "one round says nothing of how much the figures vary")
		} else if coverage < 0.9 {
			out = append(out, fmt.Sprintf("of %d rounds the intervals are the least and the greatest value and hold the median with %.0f %% only; --repetitions 6 gives 97 %%", n, 100*coverage))
		}
	}
	return out
}

// figures sums up the passes of a row.
func (r *row) figures(s Settings) Measured {
	m := r.m
	m.Runtime, m.Provider, m.CacheBytes = r.opened.Runtime, r.opened.Provider, r.opened.CacheBytes
	m.LoadCold, m.LoadWarm, m.Busy = newStat(r.cold), newStat(r.warm), newStat(r.busy)
	var first, prefill, decode, byGap, overhead, joules, gaps []float64
	var source []string
	for _, p := range r.passes {
		n := float64(len(p.Gaps))
		first = append(first, p.FirstToken)
		prefill = append(prefill, float64(s.Prompt)/p.Prefill)
		decode = append(decode, n/p.decode())
		sorted := slices.Sorted(slices.Values(p.Gaps))
		byGap = append(byGap, 1/percentile(sorted, 0.5).Value)
		overhead = append(overhead, 1-p.Inside/p.decode())
		gaps = append(gaps, p.Gaps...)
		m.PeakMemory = max(m.PeakMemory, p.Peak)
		if len(p.Counters) > 0 {
			joules, source = append(joules, p.Joules/n), p.Counters
		}
	}
	m.FirstToken, m.Prefill, m.Decode, m.DecodeByGap = newStat(first), newStat(prefill), newStat(decode), newStat(byGap)
	m.Overhead = newStat(overhead)
	if len(gaps) == 0 {
		return m
	}
	m.OverheadNote = "share of the decode time outside the library's calls: sampling, text, the work around each call"
	if !r.opened.CountsInside {
		m.OverheadNote = "share of the decode time outside the session's evaluations: sampling and text; the pipe to the runtime's process counts as the library"
	}
	slices.Sort(gaps)
	m.Gaps = &Gaps{P50: percentile(gaps, 0.5), P95: percentile(gaps, 0.95), P99: percentile(gaps, 0.99)}
	if len(joules) == len(r.passes) {
		m.Energy = &Energy{PerToken: *newStat(joules), Source: strings.Join(source, ", ")}
	}
	for _, p := range r.passes[1:] {
		if !slices.Equal(p.Tokens, r.passes[0].Tokens) {
			m.Notes = append(m.Notes, "greedy rounds made different tokens: the runtime's sums depend on the order its threads end in, or something is wrong")
			break
		}
	}
	return m
}

// describeMachine says where a report is made.
func describeMachine(ctx context.Context) Machine {
	cpu := hardware.DetectCPU(ctx)
	m := Machine{System: runtime.GOOS + "/" + runtime.GOARCH, CPU: strings.TrimSpace(cpu.Name), Features: cpu.Features.String(), Cores: cpu.Threads()}
	if mem, err := hardware.DetectMemory(ctx); err == nil {
		m.Memory = mem.Total
	}
	acc := hardware.DetectAccelerators(ctx)
	for _, g := range acc.NVIDIA {
		m.Devices = append(m.Devices, strings.TrimSpace(strings.TrimSpace(g.Name)+" driver "+g.Driver))
	}
	if acc.Jetson != "" {
		m.Devices = append(m.Devices, acc.Jetson)
	}
	if acc.Apple {
		m.Devices = append(m.Devices, "Apple silicon")
	}
	return m
}
