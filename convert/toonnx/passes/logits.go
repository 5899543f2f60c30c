package passes

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// EveryPosition removes the nodes that cut hidden states down to the last
// position: those whose name begins with prefix. Each hands its first input on
// unchanged but for the positions. The outputs of three dimensions then have
// the extent of the sequence, given as length. It reports how many were
// removed.
func EveryPosition(m *onnx.Model, prefix string, length onnx.Dim) int {
	g := m.Graph
	removed := 0
	g.RemoveNodes(func(n *onnx.Node) bool {
		if !strings.HasPrefix(n.Name, prefix) {
			return false
		}
		g.ReplaceUses(n.Output(0), n.Input(0))
		removed++
		return true
	})
	if removed == 0 {
		return 0
	}
	g.Values = nil // what was noted of shapes behind the nodes is wrong now
	for i := range g.Outputs {
		if s := g.Outputs[i].Shape; len(s) == 3 {
			s[1] = length
		}
	}
	g.Prune()
	return removed
}
