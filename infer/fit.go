package infer

import "fmt"

// Fit is the sum that decides whether a model fits the memory.
type Fit struct {
	Weights       int64 // bytes of the weights
	CachePerToken int64 // bytes of KV cache of one token
	Overhead      int64 // bytes for activations and the runtime itself
	Free          int64 // bytes that can be had
	Context       int   // tokens wanted
}

// FitError says that weights and cache exceed the free memory.
type FitError struct{ Fit Fit }

func (e *FitError) Error() string {
	f := e.Fit
	cache := int64(f.Context) * f.CachePerToken
	msg := fmt.Sprintf("the model does not fit: weights %s + cache %s for a context of %d tokens + %s overhead = %s, free memory is %s",
		FormatBytes(f.Weights), FormatBytes(cache), f.Context, FormatBytes(f.Overhead),
		FormatBytes(f.Weights+cache+f.Overhead), FormatBytes(f.Free))
	if n := f.Largest(); n > 0 {
		return msg + fmt.Sprintf("; the largest context that fits is %d (--context %d)", n, n)
	}
	return msg + "; no context fits: use a smaller recipe or free some memory"
}

// Largest is the largest context up to Context that fits, 0 if none does.
func (f Fit) Largest() int {
	room := f.Free - f.Weights - f.Overhead
	if room <= 0 {
		return 0
	}
	if f.CachePerToken <= 0 {
		return f.Context
	}
	return int(min(room/f.CachePerToken, int64(f.Context)))
}

// Check returns a [FitError] if the context wanted does not fit. Unknown free
// memory (0) fits everything.
func (f Fit) Check() error {
	if f.Free <= 0 || f.Largest() >= f.Context {
		return nil
	}
	return &FitError{Fit: f}
}

// FormatBytes writes a size with three digits: "227 MB", "4.61 GB" (powers of
// 1000, as disks and models are sold).
func FormatBytes(n int64) string {
	v, unit := float64(n), 0
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for v >= 999.5 && unit < len(units)-1 {
		v /= 1000
		unit++
	}
	switch {
	case unit == 0 || v >= 99.95:
		return fmt.Sprintf("%.0f %s", v, units[unit])
	case v >= 9.995:
		return fmt.Sprintf("%.1f %s", v, units[unit])
	}
	return fmt.Sprintf("%.2f %s", v, units[unit])
}
