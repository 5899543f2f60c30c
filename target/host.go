package target

import (
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// smallInitializer is the number of elements up to which a constant does not
// keep a node from the host.
const smallInitializer = 100

// deviceOnly are element types that keep a node on the device.
var deviceOnly = []onnx.ElemType{onnx.F16, onnx.BF16, onnx.F8E4M3FN, onnx.F8E4M3FNUZ, onnx.F8E5M2, onnx.F8E5M2FNUZ, onnx.F4E2M1}

// host finds the nodes that ONNX Runtime keeps on the CPU although the provider
// has kernels for them: those that compute with values in main memory alone, such
// as what Shape returns. Source: GetCpuPreferredNodes in
// core/framework/fallback_cpu_capability.cc.
func (p *placing) host() {
	if len(p.t.HostOutputs) == 0 {
		return
	}
	here := map[string]bool{} // values in main memory
	for i := range p.out.Nodes {
		place := &p.out.Nodes[i]
		n := place.Node
		switch {
		case place.Fate == Taken && n.Domain == onnx.DomainONNX && slices.Contains(p.t.HostOutputs, n.Op):
		case place.Fate == Left && slices.ContainsFunc(n.Inputs, func(name string) bool { return here[name] }):
			// It runs on the CPU, and so may what follows.
		case place.Fate == Taken && p.staysOnHost(n, here):
			place.Fate, place.Text = Host, "computes with shapes"
		default:
			continue
		}
		for _, name := range n.Outputs {
			here[name] = true
		}
	}
}

// staysOnHost reports whether a node reads something in main memory and nothing
// from the device.
func (p *placing) staysOnHost(n *onnx.Node, here map[string]bool) bool {
	reads := false
	opset, _ := p.m.Opset(n.Domain)
	schema := onnx.FindOperator(n.Domain, n.Op, opset)
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		v := p.values[name]
		if slices.Contains(deviceOnly, v.Elem) {
			return false
		}
		if here[name] {
			reads = true
		}
		if _, constant := p.consts[name]; constant || p.index.Input(name) != nil {
			if dims, fixed := v.Shape.Ints(); constant && (!fixed || elements(dims) > smallInitializer) {
				return false
			}
			continue
		}
		if !here[name] {
			return false
		}
		if f := formalAt(schema.Inputs, i); f != nil && slices.Contains(p.t.HostInputs[n.Op], f.Name) {
			return false // the device's kernel wants it here
		}
	}
	return reads
}

// elements is the number of elements, cut off above smallInitializer.
func elements(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n = min(n*min(d, smallInitializer+1), smallInitializer+1)
		if d == 0 {
			return 0
		}
	}
	return n
}
