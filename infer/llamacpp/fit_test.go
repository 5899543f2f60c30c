package llamacpp

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/llama"
)

// TestPlace shares an 8 B model out: 36 layers of 110 MB, 8 key heads of 128.
func TestPlace(t *testing.T) {
	f := &Facts{Context: 32768, LayerBytes: make([]int64, 36), CacheElements: make([]int64, 36), OtherBytes: 700e6}
	for i := range f.LayerBytes {
		f.LayerBytes[i], f.CacheElements[i] = 110e6, 2*8*128
	}
	const gb = 1 << 30
	for _, tt := range []struct {
		name    string
		layers  int // asked for
		context int
		free    []uint64
		host    int64
		want    int // layers on devices
		length  int
		err     string
	}{
		{name: "no device", layers: AutoLayers, host: 64 * gb, want: 0, length: 32768},
		{name: "asked for without a device", layers: 10, host: 64 * gb, want: 0, length: 32768},
		{name: "12 GB", layers: AutoLayers, free: []uint64{12 * gb}, host: 16 * gb, want: 37, length: 32768},
		{name: "12 GB, long context", layers: AutoLayers, context: 32768, free: []uint64{12 * gb}, host: 16 * gb, want: 37, length: 32768},
		{name: "4 GB", layers: AutoLayers, free: []uint64{4 * gb}, host: 16 * gb, want: 28, length: 32768},
		{name: "4 GB, long context", layers: AutoLayers, context: 32768, free: []uint64{4 * gb}, host: 16 * gb, want: 15, length: 32768},
		{name: "two cards", layers: AutoLayers, free: []uint64{4 * gb, 4 * gb}, host: 16 * gb, want: 37, length: 32768},
		{name: "full card", layers: AutoLayers, free: []uint64{gb / 2}, host: 16 * gb, want: 0, length: 32768},
		{name: "none wanted", layers: 0, free: []uint64{12 * gb}, host: 16 * gb, want: 0, length: 32768},
		{name: "more than there are", layers: 99, free: []uint64{12 * gb}, host: 16 * gb, want: 37, length: 32768},
		{name: "short of memory", layers: 0, host: 6 * gb, want: 0, length: 11021},
		{name: "short of memory, asked", layers: 0, context: 32768, host: 6 * gb, err: "does not fit"},
		{name: "no room at all", layers: 0, host: 2 * gb, err: "no context fits"},
		{name: "unknown memory", layers: 0, want: 0, length: 32768},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &Backend{o: Options{GPULayers: tt.layers}, cache: cacheTypes[0], log: slog.New(slog.DiscardHandler)}
			p, err := b.place(f, infer.OpenOptions{Context: tt.context}, tt.free, tt.host)
			if tt.err != "" {
				var fit *infer.FitError
				if !errors.As(err, &fit) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || p.layers != tt.want || p.context != tt.length {
				t.Errorf("%d layers, context %d, %v; want %d, %d", p.layers, p.context, err, tt.want, tt.length)
			}
		})
	}
}

func TestCacheTypes(t *testing.T) {
	if n := len(CacheTypes()); n != 8 || CacheTypes()[0] != "f16" {
		t.Errorf("%v", CacheTypes())
	}
	for _, c := range cacheTypes {
		if got := c.size(64); got*c.block != 64*c.bytes || c.quantized() != (c.typ != llama.F16 && c.typ != llama.F32 && c.typ != llama.BF16) {
			t.Errorf("%+v: %d bytes", c, got)
		}
	}
}
