package onnxruntime

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/mmap"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// weights are the data files of a graph, mapped, with its external
// initializers as tensors over them.
//
// Why not leave the files to ONNX Runtime: it holds all weights as read while
// it makes packed copies of them, so that loading needs twice the memory that
// running does. Over a mapping that is released again and again during the
// load, the pages already packed take none: 195 MB instead of 274 at the peak
// of loading SmolLM2's int4, 237 instead of 362 for int8 (ONNX Runtime 1.32).
// They go in as shared initializers; given as external ones they are copied.
type weights struct {
	files  map[string]*mmap.File // by location
	values map[string]*ort.Value // by initializer
}

// mapWeights maps the data files of an open graph.
func mapWeights(lib *ort.Library, file *onnx.File) (w *weights, err error) {
	w = &weights{files: map[string]*mmap.File{}, values: map[string]*ort.Value{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for _, t := range file.Model.Graph.Initializers {
		if t.External == nil {
			continue
		}
		n, ok := t.Bytes()
		if !ok || n == 0 {
			continue // left to ONNX Runtime
		}
		m := w.files[t.External.Location]
		if m == nil {
			m, err = mmap.Open(filepath.Join(filepath.Dir(file.Path), filepath.FromSlash(t.External.Location)))
			if err != nil {
				return nil, err
			}
			w.files[t.External.Location] = m
		}
		at := t.External.Offset
		if at < 0 || n > m.Size()-at {
			return nil, fmt.Errorf("initializer %q lies beyond the end of %s", t.Name, t.External.Location)
		}
		v, err := ort.NewTensorBytes(lib, ort.ElementType(t.Elem), m.Bytes()[at:at+n], t.Dims...)
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", t.Name, err)
		}
		w.values[t.Name] = v
	}
	return w, nil
}

// releaseEvery is how often mapped pages are given back during a load.
const releaseEvery = 20 * time.Millisecond

// duringLoad gives pages back while load runs, and once more behind it.
func (w *weights) duringLoad(load func() error) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(releaseEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				w.release()
			}
		}
	})
	err := load()
	close(done)
	wg.Wait()
	w.release()
	return err
}

func (w *weights) release() {
	for _, f := range w.files {
		f.Release()
	}
}

// close ends the mappings; no session may use them any more.
func (w *weights) close() {
	for _, v := range w.values {
		v.Close()
	}
	for _, f := range w.files {
		_ = f.Close() // it was only read
	}
}
