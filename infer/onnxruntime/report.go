package onnxruntime

import (
	"errors"
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/infer"
)

// NodeCount is how many nodes of a graph a provider runs, and of which
// operators.
type NodeCount struct {
	Graph     string         `json:"graph"` // "decode" or "prefill"
	Provider  string         `json:"provider"`
	Nodes     int            `json:"nodes"`
	Operators map[string]int `json:"operators"`
}

var errForeign = errors.New("not a session of ONNX Runtime")

// NodeCounts counts the nodes of each provider as they were given out, for a
// session opened with Options.Record, the most first.
func NodeCounts(s infer.Session) ([]NodeCount, error) {
	own, ok := s.(*session)
	if !ok {
		return nil, errForeign
	}
	var list []NodeCount
	for i, e := range own.engines() {
		nodes, err := e.raw.Assignments()
		if err != nil {
			return nil, err
		}
		graph := []string{"decode", "prefill"}[i]
		from := len(list)
		for _, n := range nodes {
			at := slices.IndexFunc(list[from:], func(c NodeCount) bool { return c.Provider == n.Provider })
			if at < 0 {
				at = len(list) - from
				list = append(list, NodeCount{Graph: graph, Provider: n.Provider, Operators: map[string]int{}})
			}
			list[from+at].Nodes++
			list[from+at].Operators[n.Operator]++
		}
		slices.SortStableFunc(list[from:], func(a, b NodeCount) int { return b.Nodes - a.Nodes })
	}
	return list, nil
}

// EndProfiling ends the traces of a session opened with Options.Profile and
// returns the files.
func EndProfiling(s infer.Session) ([]string, error) {
	own, ok := s.(*session)
	if !ok {
		return nil, errForeign
	}
	var files []string
	for _, e := range own.engines() {
		file, err := e.raw.EndProfiling()
		if err != nil {
			return files, fmt.Errorf("end the trace: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}
