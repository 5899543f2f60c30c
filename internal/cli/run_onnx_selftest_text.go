package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// print is the report for people, to be pasted into an issue.
func (r *selftest) print(w io.Writer, color bool) error {
	p := &page{color: color}
	p.row("program", "llama-pajamas %s on %s/%s", r.Version, r.OS, r.Arch)
	p.row("processor", "%s, %s\n%s", r.CPU.Name, plural(r.CPU.Cores, "core"), strings.Join(r.CPU.Features, " "))
	p.row("memory", "%s", r.Memory.speech())
	for _, a := range r.Accelerators {
		p.row("accelerator", "%s", a.speech())
	}
	p.row("library", "ONNX Runtime %s\n%s\nproviders: %s\n%s", r.Library.Version, r.Library.Path, strings.Join(r.Library.Providers, ", "), r.Build)
	p.row("model", "%s", r.Model.speech())
	p.row("backend", "%s", r.backendSpeech())
	for _, f := range r.Fallbacks {
		p.row("passed over", "%s: %s", f.From, f.Why)
	}
	p.row("loaded", "in %.2f s", r.Load)
	for _, n := range r.Nodes {
		p.row("nodes", "%s: %d on %s (%s)", n.Graph, n.Nodes, n.Provider, commonest(n.Operators))
	}
	for _, u := range r.ComputePlan {
		p.row("CoreML", "%d operations on %s, cost %.3g (%s)", u.Operations, u.Unit, u.Cost, commonest(u.Kinds))
	}
	verdict := p.paint("32", "agree")
	if !r.Logits.OK {
		verdict = p.paint("31", "are wrong")
	}
	g := r.Logits
	p.row("logits", "%s: same top token in %d of %d, largest difference %.3g (logits to %.3g)\nprompt against single tokens: %.3g\nreference: %s",
		verdict, g.SameTop, g.Cases, g.MaxDelta, g.MaxLogit, g.PrefillDelta, g.Reference)
	if s := r.Speed; s.DecodeRate > 0 {
		p.row("prefill", "%.0f tokens/s (%s)", s.PrefillRate, plural(s.PromptTokens, "token"))
		p.row("decode", "%s", s.speech())
	}
	if q := r.Ratio; q != nil {
		p.row("int4 / int8", "decode %.2f × (%.1f and %.1f tokens/s), weights %.2f ×", q.Decode, q.Rate4, q.Rate8, q.Weights)
	}
	if r.Peak > 0 {
		p.row("peak memory", "%s of the process", humanBytes(r.Peak))
	}
	for _, text := range r.Warnings {
		p.row(p.paint("33", "warning"), "%s", text)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func (m selftestModel) speech() string {
	text := m.Path
	if m.Name != "" {
		text += fmt.Sprintf("\n%s, %s for %s, written by %s", m.Name, m.Recipe, m.Target, m.Writer)
	}
	text += "\n" + humanBytes(m.WeightBytes)
	if m.Parameters > 0 {
		text += fmt.Sprintf(", %.4g million weights, %.2f bits each", float64(m.Parameters)/1e6, m.Bits)
	}
	text += fmt.Sprintf(", context %d", m.Context)
	if m.RanOnDevice != "" && m.RanOnDevice != "yes" {
		text += "\n" + m.RanOnDevice + " by its maker"
	}
	return text
}

func (r *selftest) backendSpeech() string {
	text := fmt.Sprintf("%s asked for, %s runs it", r.Asked, r.Provider)
	if r.Profile != "" {
		text += ", profile " + r.Profile
	}
	for _, k := range slices.Sorted(maps.Keys(r.Options)) {
		text += "\n" + k + "=" + r.Options[k]
	}
	return text
}

func (s selftestSpeed) speech() string {
	text := fmt.Sprintf("%.1f tokens/s (%s)", s.DecodeRate, plural(s.DecodeTokens, "token"))
	if s.Ceiling > 0 {
		text += fmt.Sprintf("\nceiling %.1f: %.1f GB/s (%s) / %s a token; reached %.0f %%",
			s.Ceiling, s.Bandwidth, s.BandwidthFrom, humanBytes(s.BytesPerToken), 100*s.DecodeRate/s.Ceiling)
	}
	return text
}

// commonest lists counts, the largest first, at most six.
func commonest(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	var list []string
	for _, n := range names[:min(len(names), 6)] {
		list = append(list, fmt.Sprintf("%d %s", counts[n], n))
	}
	if len(names) > 6 {
		list = append(list, "…")
	}
	return strings.Join(list, ", ")
}

// readBandwidth is the rate in GB/s (1e9 bytes) at which threads read 256 MB
// of memory, the best of five passes: what decoding could read weights at.
func readBandwidth(threads int) float64 {
	const words = 256 << 20 / 8
	data := make([]uint64, words)
	for i := range data {
		data[i] = uint64(i) // every page must be one of its own
	}
	sums := make([]uint64, threads)
	best := time.Duration(1 << 62)
	for range 5 {
		start := time.Now()
		var wg sync.WaitGroup
		for t := range threads {
			part := data[t*words/threads : (t+1)*words/threads]
			wg.Go(func() {
				var a, b, c, d uint64 // four chains: one addition waits for no other
				for len(part) >= 4 {
					a, b, c, d = a+part[0], b+part[1], c+part[2], d+part[3]
					part = part[4:]
				}
				sums[t] = a + b + c + d
			})
		}
		wg.Wait()
		best = min(best, time.Since(start))
	}
	return words * 8 / best.Seconds() / 1e9
}
