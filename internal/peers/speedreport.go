package main

import (
	"fmt"
	"strings"
)

// speedReport is the outcome of the speed command.
type speedReport struct {
	Machine    machine      `json:"machine"`
	Prompt     int          `json:"prompt_tokens"`
	Generate   int          `json:"generated_tokens"`
	Threads    int          `json:"threads"`
	Rounds     int          `json:"rounds"`
	Passes     int          `json:"passes_per_round"`
	Parameters int64        `json:"parameters"`
	Contenders []*contender `json:"contenders"`
	Claims     []claim      `json:"claims"`
}

// series takes one figure of every pass.
func series(passes []pass, figure func(pass) float64) []float64 {
	out := make([]float64, len(passes))
	for i, p := range passes {
		out[i] = figure(p)
	}
	return out
}

func (c *contender) prefill(prompt int) []float64 {
	return series(c.Warm, func(p pass) float64 { return float64(prompt) / p.Prefill })
}

func (c *contender) decode() []float64 {
	return series(c.Warm, func(p pass) float64 { return float64(p.Decoded) / p.Decode })
}

func (c *contender) load() []float64 { return series(c.Cold, func(p pass) float64 { return p.Load }) }

func (c *contender) firstToken() []float64 {
	return series(c.Cold, func(p pass) float64 { return p.FirstToken })
}

func (c *contender) memory() []float64 {
	return series(c.Cold, func(p pass) float64 { return float64(p.PeakRSS) })
}

func (r *speedReport) find(maker, name string) *contender {
	for _, c := range r.Contenders {
		if c.Maker == maker && c.Name == name && c.Flash == "" {
			return c
		}
	}
	return nil
}

// fastest is the way of running a llama.cpp file that decodes fastest.
func (r *speedReport) fastest(name string) *contender {
	return r.best((*contender).decode, func(c *contender) bool { return c.Maker == llama && c.Name == name })
}

// claims measures the goals, as far as both sides took part.
func (r *speedReport) claims(q *qualityReport) {
	add := func(what string, a, b *contender, figure func(*contender) []float64, g goal) {
		if a != nil && b != nil {
			r.Claims = append(r.Claims, newClaim(what, a.Name, b.title(), figure(a), figure(b), g))
		}
	}
	prefill := func(c *contender) []float64 { return c.prefill(r.Prompt) }
	decode := (*contender).decode
	small, int4, int8 := r.find(ours, "int4-small"), r.find(ours, "int4"), r.find(ours, "int8")
	theirs, pruned, theirs8 := r.find(genai, "int4"), r.find(genai, "int4 prune_lm_head"), r.find(genai, "int8")

	add("prefill", small, theirs, prefill, goal{atLeast: 1.3})
	add("decode", small, theirs, decode, goal{atLeast: 1, lowAbove: 0.97})
	add("prefill", small, pruned, prefill, goal{})
	add("decode", small, pruned, decode, goal{})
	add("decode", int4, r.fastest("Q4_K_M"), decode, goal{atLeast: 1.1})
	add("prefill", int4, r.fastest("Q4_K_M"), prefill, goal{})
	add("decode", int8, theirs8, decode, goal{atLeast: 1})
	add("prefill", int8, theirs8, prefill, goal{atLeast: 1})
	add("decode", int8, r.fastest("Q8_0"), decode, goal{atLeast: 1.1})
	add("prefill", int8, r.fastest("Q8_0"), prefill, goal{})
	for _, pair := range [][2]*contender{{small, theirs}, {int8, theirs8}} {
		add("peak memory", pair[0], pair[1], (*contender).memory, goal{atMost: 0.7})
		add("load to first token", pair[0], pair[1], (*contender).firstToken, goal{atMost: 0.7})
	}
	r.matches(q, add)
}

// quality is the KL of a contender, of a llama.cpp file that of the one with an
// importance matrix where it is lower: they run alike.
func (c *contender) quality(q *qualityReport) (kl float64, known bool) {
	name := strings.TrimSuffix(c.Name, " prune_lm_head")
	for _, n := range []string{name, name + imatrixSuffix} {
		maker := c.Maker
		if maker == ollama {
			maker = llama
		}
		if m := q.find(maker, n); m != nil && (!known || m.Fidelity.KLMean < kl) {
			kl, known = m.Fidelity.KLMean, true
		}
	}
	return kl, known
}

// matches sets against each peer's file the fastest of ours that is at least as
// good, in decode and in prefill. Of a llama.cpp file the faster way to run it
// counts, which need not be the same one for both.
func (r *speedReport) matches(q *qualityReport, add func(what string, a, b *contender, figure func(*contender) []float64, g goal)) {
	for _, f := range []struct {
		what   string
		figure func(*contender) []float64
	}{
		{"decode, of equal or lower KL", (*contender).decode},
		{"prefill, of equal or lower KL", func(c *contender) []float64 { return c.prefill(r.Prompt) }},
	} {
		seen := map[string]bool{}
		for _, peer := range r.Contenders {
			limit, known := peer.quality(q)
			if peer.Maker == ours || !known || seen[peer.label()] {
				continue
			}
			seen[peer.label()] = true
			mine := r.best(f.figure, func(c *contender) bool {
				kl, known := c.quality(q)
				return c.Maker == ours && known && kl <= limit
			})
			theirs := r.best(f.figure, func(c *contender) bool { return c.label() == peer.label() })
			add(f.what, mine, theirs, f.figure, goal{atLeast: 1})
		}
	}
}

// best is the contender with the largest median among those wanted.
func (r *speedReport) best(figure func(*contender) []float64, wanted func(*contender) bool) *contender {
	var best *contender
	for _, c := range r.Contenders {
		if wanted(c) && len(c.Warm) > 0 && (best == nil || median(figure(c)) > median(figure(best))) {
			best = c
		}
	}
	return best
}

// write adds the claims and writes the files.
func (r *speedReport) write(dir string) error {
	var q qualityReport
	if _, err := readReport(dir, qualityFile, &q); err != nil {
		return err
	}
	r.Claims = nil
	r.claims(&q)
	return writeReport(dir, speedFile, r, r.table(&q))
}

func (r *speedReport) table(q *qualityReport) string {
	var b strings.Builder
	b.WriteString("# Speed of SmolLM2-135M beside the peers\n\n")
	fmt.Fprintf(&b, "Written by `make bench-peers` (internal/peers). Prompt %d + %d generated tokens, batch 1, greedy, %d threads; %d rounds of fresh processes, %d passes of each in a round, alternating. ",
		r.Prompt, r.Generate, r.Threads, r.Rounds, r.Passes)
	b.WriteString("Load, first token (from before the model is loaded) and peak resident memory are of a process's first pass, prefill and decode of the later ones. Medians, [smallest – largest]. ")
	b.WriteString("KL is from [quality.md](quality.md), of llama.cpp's files with an importance matrix where that is lower (they run alike). mlx-lm, where it is here, has one round: without Metal a prompt of 512 tokens takes it minutes. ")
	b.WriteString("onnxruntime-genai's cache is made for these tokens alone, not for the whole context as is its default; starting Python is not counted.\n\n")
	b.WriteString("| file | prefill tokens/s | decode tokens/s | load s | first token s | peak MB | file MB | KL |\n|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.Contenders {
		name := c.title()
		if c.Maker == ours {
			name = "**" + name + "**"
		}
		size, err := c.weightBytes()
		if err != nil {
			size = 0
		}
		kl := "–"
		if v, known := c.quality(q); known {
			kl = fmt.Sprintf("%.4f", v)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.2f | %.0f | %.1f | %s |\n", name, spread(c.prefill(r.Prompt), 0), spread(c.decode(), 1),
			median(c.load()), median(c.firstToken()), median(c.memory())/1e6, float64(size)/1e6, kl)
	}
	b.WriteString("\nPaired ratios, ours / peer: median [95 % interval of the median, by order statistics], and the goal.\n\n")
	b.WriteString("| what | ours | peer | ratio | pairs | goal | |\n|---|---|---|---|---|---|---|\n")
	for _, c := range r.Claims {
		met := ""
		if c.Goal != "" {
			met = verdict(c.Met)
		}
		interval := fmt.Sprintf("[%.3f – %.3f]", c.Low, c.High)
		if c.Coverage < 0.95 {
			interval += fmt.Sprintf(" (%.0f %%)", 100*c.Coverage)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.3f %s | %d | %s | %s |\n", c.What, c.Ours, c.Peer, c.Ratio, interval, c.Pairs, c.Goal, met)
	}
	for _, c := range r.Contenders {
		if c.Maker == ours {
			fmt.Fprintf(&b, "\nOf a decode step of %s, %.2f %% lie outside the evaluation (sampling and the loop; median). BenchmarkStepOverhead of infer/onnxruntime measures Go's part inside it, a few microseconds.\n",
				c.Name, 100*median(series(c.Warm, func(p pass) float64 { return p.Outside / p.Decode })))
		}
	}
	var foreign []float64
	for _, c := range r.Contenders {
		foreign = append(foreign, series(append(c.Cold[:len(c.Cold):len(c.Cold)], c.Warm...), func(p pass) float64 { return p.Foreign })...)
	}
	fmt.Fprintf(&b, "\n%s Other work took %.1f %% of the cores during a pass (median).\n", r.Machine, 100*median(foreign))
	if m := median(foreign); m > busyLimit {
		b.WriteString("\nThe machine was busy during the run: these figures are noisy.\n")
	}
	return b.String()
}

// spread is a median with its range.
func spread(x []float64, digits int) string {
	if len(x) == 0 {
		return "–"
	}
	low, high := x[0], x[0]
	for _, v := range x {
		low, high = min(low, v), max(high, v)
	}
	return fmt.Sprintf("%.*f [%.*f – %.*f]", digits, median(x), digits, low, digits, high)
}
