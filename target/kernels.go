package target

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// kernel is one registered kernel: the element types of each type variable.
type kernel struct {
	since, until int64 // until 0 is open
	types        map[string]elemSet
}

// kernelTable is a file of data/kernels: what a provider's kernel registry
// lists, keyed by domain and operator.
type kernelTable struct {
	kernels   map[[2]string][]kernel
	functions map[[2]string][]int64 // versions that ONNX defines by other operators
}

// loadKernels parses a file of data/kernels; testdata/kernels.py says what a
// line means.
func loadKernels(name string) (kernelTable, error) {
	t := kernelTable{kernels: map[[2]string][]kernel{}, functions: map[[2]string][]int64{}}
	b, err := data.ReadFile("data/kernels/" + name)
	if err != nil {
		return t, fmt.Errorf("read kernels: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if err := t.add(strings.TrimSpace(line)); err != nil {
			return t, fmt.Errorf("read data/kernels/%s: line %d: %w", name, n, err)
		}
	}
	return t, nil
}

func (t *kernelTable) add(line string) error {
	f := strings.Fields(line)
	if len(f) == 0 || strings.HasPrefix(line, "#") {
		return nil
	}
	isFunction := f[0] == "function"
	if isFunction {
		f = f[1:]
	}
	if len(f) < 2 || !isFunction && len(f) < 3 {
		return fmt.Errorf("too few fields")
	}
	domain, op, ok := strings.Cut(f[0], "/")
	if !ok {
		return fmt.Errorf("no domain in %q", f[0])
	}
	if domain == "ai.onnx" {
		domain = onnx.DomainONNX
	}
	key := [2]string{domain, op}
	since, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if isFunction {
		t.functions[key] = append(t.functions[key], since)
		return nil
	}
	k := kernel{since: since, types: map[string]elemSet{}}
	if f[2] != "-" {
		if k.until, err = strconv.ParseInt(f[2], 10, 64); err != nil {
			return fmt.Errorf("read version: %w", err)
		}
	}
	for _, pair := range f[3:] {
		v, names, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("no types in %q", pair)
		}
		if k.types[v], err = parseElems(names, ","); err != nil {
			return err
		}
	}
	t.kernels[key] = append(t.kernels[key], k)
	return nil
}

// matching lists the kernels for an operator version. A kernel without an upper
// bound serves the version it names alone, so that a new operator version is
// never run by an old kernel: VerifyVersion in ONNX Runtime's
// core/framework/kernel_registry.cc.
func (t kernelTable) matching(domain, op string, since int64) []kernel {
	var found []kernel
	for _, k := range t.kernels[[2]string{domain, op}] {
		if k.since == since || k.until != 0 && k.since <= since && since <= k.until {
			found = append(found, k)
		}
	}
	return found
}

func (t kernelTable) function(domain, op string, since int64) bool {
	for _, v := range t.functions[[2]string{domain, op}] {
		if v == since {
			return true
		}
	}
	return false
}
