package onnxruntime

import (
	"context"
	"time"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// Stats is where the time of a session's evaluations went.
type Stats struct {
	Calls int
	// Library is the time inside the library's Run, with what Go needs to get
	// there and back.
	Library time.Duration
}

// StatsOf reads a session's statistics; ok is false for sessions of other
// packages.
func StatsOf(s infer.Session) (st Stats, ok bool) {
	own, ok := s.(*session)
	if !ok {
		return Stats{}, false
	}
	return own.stats, true
}

// run runs a call and adds its time.
func (st *Stats) run(ctx context.Context, call *ort.Call) error {
	start := time.Now()
	err := call.Run(ctx, nil)
	st.Library += time.Since(start)
	st.Calls++
	return err
}
