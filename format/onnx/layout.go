package onnx

import (
	"fmt"
	"math"
)

// Layout gives external tensors their place in one data file, in the order in
// which they are asked for, so that the file's size and every offset are known
// before a byte is written and workers can write side by side. Gaps between
// ranges are zero bytes.
//
// The zero value of the alignment fields means the defaults: 4 KiB (a page,
// so that a range can be mapped), and 64 KiB from 1 MiB on (the granularity of
// file mappings on Windows; the same rule as in ONNX Runtime's own writer).
// Aligning smaller tensors to 64 KiB too would cost a small model up to a tenth
// of its size, while the loader maps from the granule below anyway.
type Layout struct {
	Location string // the data file's name, such as "model.onnx.data"
	Align    int64  // of every range; a power of two; default 4096
	BigAlign int64  // of ranges of BigBytes or more; default 65536
	BigBytes int64  // default 1 MiB

	ranges []Range
	size   int64
}

// Range is the place of one declared tensor.
type Range struct {
	Name string
	External
}

// Place reserves length bytes for a tensor and returns where they are, to be
// put into [Initializer.External]. Tied weights are placed once and share the
// result. A length of 0 takes no room and lies at offset 0.
func (l *Layout) Place(name string, length int64) (External, error) {
	align := orDefault(l.Align, 4096)
	if length >= orDefault(l.BigBytes, 1<<20) {
		align = max(align, orDefault(l.BigAlign, 65536))
	}
	if align&(align-1) != 0 {
		return External{}, fmt.Errorf("place tensor %q in %s: alignment %d is not a power of two", name, l.Location, align)
	}
	if length < 0 || l.size > math.MaxInt64-align-length {
		return External{}, fmt.Errorf("place tensor %q in %s: no room for %d bytes after %d", name, l.Location, length, l.size)
	}
	e := External{Location: l.Location, Length: length}
	if length > 0 {
		e.Offset = (l.size + align - 1) &^ (align - 1)
		l.size = e.Offset + length
	}
	l.ranges = append(l.ranges, Range{Name: name, External: e})
	return e, nil
}

func orDefault(v, def int64) int64 {
	if v == 0 {
		return def
	}
	return v
}

// Size is the exact size of the data file, which ends with the last tensor.
func (l *Layout) Size() int64 { return l.size }

// Ranges lists the placed tensors in file order.
func (l *Layout) Ranges() []Range { return l.ranges }
