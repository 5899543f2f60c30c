package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
)

// Loaded is an artifact that can be measured.
type Loaded struct {
	Session infer.Session
	// Prompt is at least as many tokens as the settings ask for, of ordinary text.
	Prompt []int32
	// Decoder makes text of the answer's tokens, as a program that shows it does.
	Decoder func() infer.TextDecoder
	// Library is the time spent inside the runtime's library so far; nil where
	// nothing counts it.
	Library func() time.Duration
	// Load is what opening library, graph and weights took.
	Load  time.Duration
	Close func() error
}

// opened is what a worker says of an artifact it has loaded.
type opened struct {
	Load         float64 `json:"load_seconds"`
	Runtime      string  `json:"runtime"`
	Provider     string  `json:"provider"`
	CacheBytes   int64   `json:"cache_bytes_per_token"`
	CountsInside bool    `json:"counts_library"`
}

// pass is one prompt and its answer.
type pass struct {
	FirstToken float64   `json:"first_token_seconds"`
	Prefill    float64   `json:"prefill_seconds"`
	Gaps       []float64 `json:"gaps"`          // from each token to the next
	Inside     float64   `json:"inside"`        // of the gaps: in the library, or in evaluations
	Peak       int64     `json:"peak_memory"`   // so far
	Tokens     []int32   `json:"tokens"`        // that were made
	Joules     float64   `json:"joules"`        // while decoding
	Counters   []string  `json:"energy_source"` // they are from; none: not measured
}

// decode is the time from the first token to the last.
func (p *pass) decode() (seconds float64) {
	for _, g := range p.Gaps {
		seconds += g
	}
	return seconds
}

func describe(l *Loaded) opened {
	info := l.Session.Info()
	return opened{
		Load: l.Load.Seconds(), Runtime: strings.TrimSpace(info.Backend + " " + info.Version), Provider: info.Provider,
		CacheBytes: info.CacheBytesPerToken, CountsInside: l.Library != nil,
	}
}

// timed adds up the time of evaluations.
type timed struct {
	infer.Session
	spent time.Duration
}

// Eval implements infer.Session.
func (t *timed) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	start := time.Now()
	logits, err := t.Session.Eval(ctx, tokens)
	t.spent += time.Since(start)
	return logits, err
}

// measure evaluates a prompt and makes n tokens after it, greedily and whatever
// they are, through the code that chat and generate use.
func measure(ctx context.Context, l *Loaded, prompt []int32, n int, counters []hardware.EnergyCounter) (pass, error) {
	if err := l.Session.Truncate(0); err != nil {
		return pass{}, err
	}
	s, inside := l.Session, l.Library
	if inside == nil {
		t := &timed{Session: s}
		s, inside = t, func() time.Duration { return t.spent }
	}
	var p pass
	var last time.Time
	var before, after time.Duration
	var meter reading
	g := infer.Generate(s, l.Decoder(), prompt, infer.Options{MaxTokens: n})
	r, err := g.Run(ctx, func(tok infer.Token) {
		if tok.ID < 0 {
			return
		}
		now := time.Now()
		if last.IsZero() {
			before = inside()
			meter = begin(counters)
			now = time.Now() // the meter's reading is nobody's gap
		} else {
			p.Gaps = append(p.Gaps, now.Sub(last).Seconds())
			after = inside()
			if len(p.Gaps) == n-1 {
				p.Joules, p.Counters = meter.end()
			}
		}
		last = now
	})
	if err != nil {
		return p, err
	}
	if len(r.TokenIDs) != n {
		return p, fmt.Errorf("%d tokens were made, not %d: a context of %d is too short for %d and %d", len(r.TokenIDs), n, s.Info().MaxContext, len(prompt), n)
	}
	p.FirstToken, p.Prefill = r.Timings.FirstToken.Seconds(), r.Timings.Prefill.Seconds()
	p.Inside, p.Tokens, p.Peak = (after - before).Seconds(), r.TokenIDs, peakMemory(ctx)
	return p, nil
}

// reading is the values of counters at some time.
type reading struct {
	counters []hardware.EnergyCounter
	values   []uint64
}

// begin reads the counters; one that fails is left out.
func begin(counters []hardware.EnergyCounter) (r reading) {
	for _, c := range counters {
		if v, err := c.Read(); err == nil {
			r.counters, r.values = append(r.counters, c), append(r.values, v)
		}
	}
	return r
}

// end is the energy since begin, and what counted it.
func (r *reading) end() (joules float64, source []string) {
	for i := range r.counters {
		v, err := r.counters[i].Read()
		if err != nil {
			return 0, nil // a sum without one of them would look like a saving
		}
		joules += r.counters[i].Joules(r.values[i], v)
		source = append(source, r.counters[i].String())
	}
	return joules, source
}

// peakMemory is the most this process and its children have held resident, in
// bytes: exact on Linux, elsewhere what they hold now. 0 where neither is known.
func peakMemory(ctx context.Context) (n int64) {
	if runtime.GOOS == "linux" {
		n = highWater(os.Getpid())
	}
	own, err := process.NewProcessWithContext(ctx, int32(os.Getpid()))
	if err != nil {
		return n
	}
	if n == 0 {
		if m, err := own.MemoryInfoWithContext(ctx); err == nil {
			n = int64(m.RSS)
		}
	}
	children, err := own.ChildrenWithContext(ctx)
	if err != nil { // none
		return n
	}
	for _, c := range children {
		peak := int64(0)
		if runtime.GOOS == "linux" {
			peak = highWater(int(c.Pid))
		}
		if m, err := c.MemoryInfoWithContext(ctx); err == nil && peak == 0 {
			peak = int64(m.RSS)
		}
		n += peak
	}
	return n
}

// highWater reads VmHWM, 0 where it cannot.
func highWater(pid int) int64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kb); err != nil {
		return 0
	}
	return kb << 10
}

// onCPU reports whether a provider's name says that the processor computes.
func onCPU(provider string) bool { return strings.Contains(strings.ToLower(provider), "cpu") }

var errNoTokens = errors.New("the tokenizer makes no tokens of the text")

// Repeat is the first n tokens of a text, begun again where it is shorter.
func Repeat(text []int32, n int) ([]int32, error) {
	if len(text) == 0 {
		return nil, errNoTokens
	}
	out := make([]int32, n)
	for i := range out {
		out[i] = text[i%len(text)]
	}
	return out, nil
}
