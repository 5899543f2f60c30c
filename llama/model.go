package llama

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// LoadMode says how weights get from the file into memory
// (enum llama_load_mode).
type LoadMode int32

// The modes. The zero value is the library's choice, which is [LoadMapped]
// where the system can.
const (
	LoadAuto   LoadMode = iota
	LoadCopied          // read into memory of its own
	LoadMapped
	LoadLocked       // read, and kept from being swapped out
	LoadMappedLocked // mapped, and kept from being swapped out
	LoadDirect       // read past the system's cache of files
)

// ModelOptions is how a model is loaded. The zero value computes on the CPU.
type ModelOptions struct {
	// GPULayers is how many layers, counted from the end, lie on the devices;
	// negative means all, the output layer too.
	GPULayers int
	// Devices are those to use for layers; nil means all GPUs, an empty list
	// none.
	Devices []Device
	// Split is the share of the layers for each device, in any unit; nil lets
	// the library share out by free memory.
	Split []float32
	Load  LoadMode
	// CheckTensors looks through all weights for values that are no numbers.
	CheckTensors bool
	// VocabOnly loads no weights: only [Model.Vocab] can be used.
	VocabOnly bool
	// NoRepack keeps the weights as they are in the file, in place of the order
	// the processor's kernels are fastest with. It halves the memory taken
	// while loading.
	NoRepack bool
}

// Model is a loaded model.
type Model struct {
	lib  *Library
	path string

	mu       sync.Mutex
	ptr      uintptr
	contexts int
}

// LoadModel reads a GGUF file. ctx ends the loading; on Windows it is looked
// at only before it.
func (l *Library) LoadModel(ctx context.Context, path string, o ModelOptions) (*Model, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load model %s: %w", path, context.Cause(ctx))
	}
	if strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("load model %q: the path holds a zero byte", path)
	}
	p := l.api.modelDefaults()
	p.nGPULayers = int32(max(-1, o.GPULayers))
	p.loadMode = int32(o.Load) - 1
	p.checkTensors, p.vocabOnly, p.useExtraBufts = o.CheckTensors, o.VocabOnly, !o.NoRepack

	var pin runtime.Pinner
	defer pin.Unpin()
	if o.Devices != nil {
		list := make([]uintptr, len(o.Devices)+1) // ends with 0
		for i, d := range o.Devices {
			list[i] = d.handle
		}
		pin.Pin(&list[0])
		p.devices = unsafe.Pointer(&list[0])
	}
	if o.Split != nil {
		most := int(l.api.maxDevices())
		if len(o.Split) > most {
			return nil, fmt.Errorf("load model %s: shares for %d devices, the library knows %d at most", path, len(o.Split), most)
		}
		split := make([]float32, most)
		copy(split, o.Split)
		pin.Pin(&split[0])
		p.tensorSplit = unsafe.Pointer(&split[0])
	}
	goOn := newFlag(true)
	defer goOn.release()
	if progressTakesFlag {
		p.progressCallback, p.progressUserData = l.strlen, goOn.addr()
		defer context.AfterFunc(ctx, func() { goOn.set(false) })()
	}
	l.log.forget()
	ptr := l.api.modelLoad(path, p)
	if ptr == 0 {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("load model %s: %w", path, context.Cause(ctx))
		}
		return nil, fmt.Errorf("load model %s: llama.cpp refuses it%s", path, l.log.tail())
	}
	return &Model{lib: l, path: path, ptr: ptr}, nil
}

// Close frees the model. It is an error while contexts of it are open.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.contexts > 0 {
		return fmt.Errorf("close model %s: %d contexts of it are open", m.path, m.contexts)
	}
	if m.ptr != 0 {
		m.lib.api.modelFree(m.ptr)
		m.ptr = 0
	}
	return nil
}

// ModelInfo are a model's facts.
type ModelInfo struct {
	Description  string // such as "llama 135M Q4_1"
	Bytes        int64  // of all tensors
	Parameters   int64
	TrainContext int // longest sequence it was trained for
	Layers       int
	Hidden       int
	KVHeads      int
	// Window is the length of a sliding attention window, 0 for none: tokens
	// that have left it are gone.
	Window int
	// Recurrent is true for models with a state in place of a cache, in part
	// or whole, of which nothing can be taken back.
	Recurrent bool
	// Encoder is true for models that read a text before they write one, which
	// is not done here.
	Encoder bool
	Vocab   int // number of tokens
}

// Info reads the model's facts; the zero value after Close.
func (m *Model) Info() ModelInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ptr == 0 {
		return ModelInfo{}
	}
	a, p := &m.lib.api, m.ptr
	buf := make([]byte, 256)
	n := a.modelDesc(p, unsafe.Pointer(&buf[0]), uintptr(len(buf)))
	return ModelInfo{
		Description: string(buf[:max(0, min(int(n), len(buf)-1))]),
		Bytes:       int64(a.modelSize(p)), Parameters: int64(a.modelParams(p)),
		TrainContext: int(a.modelCtxTrain(p)), Layers: int(a.modelLayer(p)), Hidden: int(a.modelEmbd(p)),
		KVHeads: int(a.modelHeadKV(p)), Window: int(a.modelSWA(p)),
		Recurrent: a.modelRecurrent(p) || a.modelHybrid(p), Encoder: a.modelHasEncoder(p),
		Vocab: int(a.vocabTokens(a.modelVocab(p))),
	}
}
