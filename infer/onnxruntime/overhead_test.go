package onnxruntime

import (
	"slices"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/infer"
)

// BenchmarkStepOverhead measures Go's part of a decode step: a step of a tiny
// graph, and of it what lies outside the runtime's Run. Neither depends on the
// size of the model, so they can be set against a real model's step (medians): the first
// is an upper bound (the runtime's own work on some 20 nodes is in it), the
// second leaves out the call itself.
func BenchmarkStepOverhead(b *testing.B) {
	s := open(b, newBackend(b), testModel{fused: true, last: true, context: 1024}, infer.OpenOptions{Threads: 1})
	eval(b, s, sequence(512))
	const steps = 256
	ids := sequence(steps)
	var all, outside []time.Duration
	for b.Loop() {
		if err := s.Truncate(512); err != nil {
			b.Fatal(err)
		}
		for i := range ids {
			start := time.Now()
			if _, err := s.Eval(b.Context(), ids[i:i+1]); err != nil {
				b.Fatal(err)
			}
			middle := time.Now()
			if err := s.decode.call.Run(b.Context(), nil); err != nil { // the same step once more
				b.Fatal(err)
			}
			all = append(all, middle.Sub(start))
			outside = append(outside, middle.Sub(start)-time.Since(middle))
		}
	}
	for what, times := range map[string][]time.Duration{"ns/step": all, "ns-outside-run/step": outside} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), what)
	}
}
