package ort

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"unsafe"
)

// Optimization is GraphOptimizationLevel.
type Optimization int

// The graph optimization levels. The zero value is the library's default: all.
const (
	OptimizeDefault Optimization = iota
	OptimizeNone
	OptimizeBasic
	OptimizeExtended
	OptimizeLayout
	OptimizeAll
)

// ExecutionMode says whether independent nodes may run at the same time.
type ExecutionMode int

// The execution modes.
const (
	Sequential ExecutionMode = iota
	Parallel
)

// Provider is an execution provider and its options, in the provider's own
// words.
type Provider struct {
	Name    string // such as "CUDAExecutionProvider"
	Options map[string]string
}

// SessionOptions configures a session. The zero value is the library's
// defaults on the CPU.
type SessionOptions struct {
	// IntraOpThreads is the number of threads within a node, 0 for one per
	// physical core. InterOpThreads counts nodes at a time in Parallel mode.
	IntraOpThreads, InterOpThreads int
	Optimization                   Optimization
	ExecutionMode                  ExecutionMode
	// LogLevel, where not LogDefault, replaces the environment's.
	LogLevel LogLevel
	// Config holds session config entries, such as
	// "session.intra_op.allow_spinning": "0".
	Config map[string]string
	// FreeDimensions fixes dimensions by their name in the graph;
	// FreeDenotations by their denotation.
	FreeDimensions, FreeDenotations map[string]int64
	// Providers are tried in this order for each node; the CPU comes last by
	// itself.
	Providers []Provider
	// ProfilePrefix, where not empty, switches profiling on; see
	// [Session.EndProfiling].
	ProfilePrefix string
	// OptimizedModelPath, where not empty, gets the optimized graph.
	OptimizedModelPath string
	DisableMemPattern  bool
	DisableCPUArena    bool
	// Initializers replace the graph's initializers of these names by shared
	// tensors; ExternalInitializers replace those whose data is external. The
	// session keeps the values until it is closed.
	Initializers, ExternalInitializers map[string]*Value
	// ExternalFiles gives the content of external data files by the name that
	// the model has for them, for a model that is not beside its data. It is
	// read, and copied by the library, during the session's creation only.
	ExternalFiles map[string][]byte
}

// optionsBuilder applies options to an OrtSessionOptions and keeps the first
// error.
type optionsBuilder struct {
	lib  *Library
	ptr  uintptr
	held []*Value       // values the session keeps
	pin  runtime.Pinner // of memory the options refer to
	err  error
}

// newOptions makes an OrtSessionOptions; the caller releases it and, at the
// session's end, the values held.
func (l *Library) newOptions(o SessionOptions) (*optionsBuilder, error) {
	b := &optionsBuilder{lib: l}
	if err := l.check(l.call(fnCreateSessionOptions, uintptr(unsafe.Pointer(&b.ptr)))); err != nil {
		return nil, fmt.Errorf("create session options: %w", err)
	}
	b.numbers(o)
	b.maps(o)
	b.initializers(o)
	b.externalFiles(o.ExternalFiles)
	for _, p := range o.Providers {
		b.provider(p)
	}
	if b.err != nil {
		b.release()
		releaseValues(b.held)
		return nil, b.err
	}
	return b, nil
}

func (b *optionsBuilder) release() {
	b.lib.call(fnReleaseSessionOptions, b.ptr)
	b.pin.Unpin()
}

// pinned is the address of b's first byte, good until p is unpinned. Strings
// inside an array of C strings need it; those passed as an argument do not.
func pinned(p *runtime.Pinner, b []byte) uintptr {
	if len(b) == 0 {
		b = zeroByte[:]
	}
	p.Pin(unsafe.SliceData(b))
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// set calls a setter whose arguments after the options are given.
//
//go:uintptrescapes
func (b *optionsBuilder) set(what string, fn int, args ...uintptr) {
	if b.err != nil {
		return
	}
	all := append([]uintptr{b.ptr}, args...)
	if err := b.lib.check(b.lib.call(fn, all...)); err != nil {
		b.err = fmt.Errorf("set %s: %w", what, err)
	}
}

// text is s for C; an error is kept.
func (b *optionsBuilder) text(what, s string) []byte {
	t, err := cString(s)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("set %s: %w", what, err)
	}
	if err != nil {
		return zeroByte[:]
	}
	return t
}

func (b *optionsBuilder) path(what string, fn int, path string) {
	if path == "" {
		return
	}
	p, err := pathBytes(path)
	if err != nil {
		b.fail(fmt.Errorf("set %s: %w", what, err))
		return
	}
	b.set(what, fn, uintptr(unsafe.Pointer(&p[0])))
}

func (b *optionsBuilder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *optionsBuilder) numbers(o SessionOptions) {
	if o.IntraOpThreads != 0 {
		b.set("intra-op threads", fnSetIntraOpNumThreads, uintptr(o.IntraOpThreads))
	}
	if o.InterOpThreads != 0 {
		b.set("inter-op threads", fnSetInterOpNumThreads, uintptr(o.InterOpThreads))
	}
	if o.Optimization != OptimizeDefault {
		level := uintptr(o.Optimization - OptimizeNone)
		if o.Optimization == OptimizeAll {
			level = 99 // ORT_ENABLE_ALL
		}
		b.set("graph optimization level", fnSetSessionGraphOptimizationLevel, level)
	}
	if o.ExecutionMode != Sequential {
		b.set("execution mode", fnSetSessionExecutionMode, uintptr(o.ExecutionMode))
	}
	if o.LogLevel != LogDefault {
		b.set("log level", fnSetSessionLogSeverityLevel, o.LogLevel.severity(LogDefault))
	}
	if o.DisableMemPattern {
		b.set("memory pattern", fnDisableMemPattern)
	}
	if o.DisableCPUArena {
		b.set("CPU memory arena", fnDisableCpuMemArena)
	}
	b.path("profile prefix", fnEnableProfiling, o.ProfilePrefix)
	b.path("optimized model path", fnSetOptimizedModelFilePath, o.OptimizedModelPath)
}

func (b *optionsBuilder) maps(o SessionOptions) {
	for _, k := range slices.Sorted(maps.Keys(o.Config)) {
		what := fmt.Sprintf("session config entry %q to %q", k, o.Config[k])
		key, value := b.text(what, k), b.text(what, o.Config[k])
		b.set(what, fnAddSessionConfigEntry, uintptr(unsafe.Pointer(&key[0])), uintptr(unsafe.Pointer(&value[0])))
	}
	for _, k := range slices.Sorted(maps.Keys(o.FreeDimensions)) {
		b.dimension(fnAddFreeDimensionOverrideByName, k, o.FreeDimensions[k])
	}
	for _, k := range slices.Sorted(maps.Keys(o.FreeDenotations)) {
		b.dimension(fnAddFreeDimensionOverride, k, o.FreeDenotations[k])
	}
}

func (b *optionsBuilder) dimension(fn int, name string, size int64) {
	what := fmt.Sprintf("free dimension %q to %d", name, size)
	if size < 0 {
		b.fail(fmt.Errorf("set %s: a dimension cannot be negative", what))
		return
	}
	n := b.text(what, name)
	b.set(what, fn, uintptr(unsafe.Pointer(&n[0])), uintptr(size))
}

func (b *optionsBuilder) hold(what string, v *Value) bool {
	held, err := acquireValues("set "+what, []*Value{v})
	b.held = append(b.held, held...)
	if err != nil {
		b.fail(err)
	}
	return err == nil
}

func (b *optionsBuilder) initializers(o SessionOptions) {
	for _, k := range slices.Sorted(maps.Keys(o.Initializers)) {
		what := fmt.Sprintf("initializer %q", k)
		if name := b.text(what, k); b.hold(what, o.Initializers[k]) {
			b.set(what, fnAddInitializer, uintptr(unsafe.Pointer(&name[0])), o.Initializers[k].res.ptr)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(o.ExternalInitializers)) {
		what := fmt.Sprintf("external initializer %q", k)
		if name := b.text(what, k); b.hold(what, o.ExternalInitializers[k]) {
			names, values := pinned(&b.pin, name), o.ExternalInitializers[k].res.ptr
			b.set(what, fnAddExternalInitializers, uintptr(unsafe.Pointer(&names)), uintptr(unsafe.Pointer(&values)), 1)
		}
	}
}

// externalFiles passes one file at a time. The library keeps the addresses
// until the session is made, so they stay pinned until the options go.
func (b *optionsBuilder) externalFiles(files map[string][]byte) {
	for _, k := range slices.Sorted(maps.Keys(files)) {
		what := fmt.Sprintf("external data file %q", k)
		name, err := pathBytes(k)
		if err != nil {
			b.fail(fmt.Errorf("set %s: %w", what, err))
			return
		}
		names, datas, size := pinned(&b.pin, name), pinned(&b.pin, files[k]), uintptr(len(files[k]))
		b.set(what, fnAddExternalInitializersFromFilesInMemory, uintptr(unsafe.Pointer(&names)),
			uintptr(unsafe.Pointer(&datas)), uintptr(unsafe.Pointer(&size)), 1)
	}
}

// provider appends an execution provider: CUDA and TensorRT through their V2
// option objects, the others by name.
func (b *optionsBuilder) provider(p Provider) {
	if b.err != nil || p.Name == "CPUExecutionProvider" {
		return
	}
	available, err := b.lib.AvailableProviders()
	if err != nil {
		b.fail(err)
		return
	}
	if !slices.Contains(available, p.Name) {
		b.fail(&ProviderError{Provider: p.Name, Err: fmt.Errorf("the library %s (%s) was built without it; it has %s",
			b.lib.path, b.lib.version, strings.Join(available, ", "))})
		return
	}
	if err := b.add(p); err != nil {
		b.fail(&ProviderError{Provider: p.Name, Err: err})
	}
}

// add appends a provider that the library was built with.
func (b *optionsBuilder) add(p Provider) error {
	kv := newPairs(p.Options)
	defer kv.pin.Unpin()
	if kv.err != nil {
		return kv.err
	}
	switch p.Name {
	case "CUDAExecutionProvider":
		return b.v2(kv, fnCreateCUDAProviderOptions, fnUpdateCUDAProviderOptions,
			fnSessionOptionsAppendExecutionProviderCUDAV2, fnReleaseCUDAProviderOptions)
	case "TensorrtExecutionProvider":
		return b.v2(kv, fnCreateTensorRTProviderOptions, fnUpdateTensorRTProviderOptions,
			fnSessionOptionsAppendExecutionProviderTensorRTV2, fnReleaseTensorRTProviderOptions)
	}
	return b.byName(p.Name, kv)
}

// ProviderError says that an execution provider could not be added to a
// session: the library lacks it, a library of its own is missing, or it refused
// an option.
type ProviderError struct {
	Provider string
	Err      error
}

func (e *ProviderError) Error() string {
	return "add execution provider " + e.Provider + ": " + e.Err.Error()
}

func (e *ProviderError) Unwrap() error { return e.Err }

// shortNames are the names SessionOptionsAppendExecutionProvider knows where
// they are not the full name without "ExecutionProvider".
// Source: provider_registration.cc of ONNX Runtime 1.24.
var shortNames = map[string]string{
	"AzureExecutionProvider": "AZURE", "XnnpackExecutionProvider": "XNNPACK", "JsExecutionProvider": "JS",
}

func (b *optionsBuilder) byName(name string, kv *pairs) error {
	short, ok := shortNames[name]
	if !ok {
		short = strings.TrimSuffix(name, "ExecutionProvider")
	}
	n, err := cString(short)
	if err != nil {
		return err
	}
	return b.lib.check(b.lib.call(fnSessionOptionsAppendExecutionProvider, b.ptr, uintptr(unsafe.Pointer(&n[0])),
		uintptr(unsafe.Pointer(&kv.keys[0])), uintptr(unsafe.Pointer(&kv.values[0])), uintptr(kv.n)))
}

func (b *optionsBuilder) v2(kv *pairs, create, update, add, release int) error {
	var opts uintptr
	if err := b.lib.check(b.lib.call(create, uintptr(unsafe.Pointer(&opts)))); err != nil {
		return err
	}
	defer b.lib.call(release, opts)
	if kv.n > 0 {
		err := b.lib.check(b.lib.call(update, opts, uintptr(unsafe.Pointer(&kv.keys[0])),
			uintptr(unsafe.Pointer(&kv.values[0])), uintptr(kv.n)))
		if err != nil {
			return fmt.Errorf("set its options: %w", err)
		}
	}
	return b.lib.check(b.lib.call(add, b.ptr, opts))
}

// pairs is a map as two arrays of C strings, sorted by key. The arrays have at
// least one element, so that they have an address.
type pairs struct {
	keys, values []uintptr
	n            int
	pin          runtime.Pinner // of the strings
	err          error
}

func newPairs(m map[string]string) *pairs {
	p := &pairs{keys: make([]uintptr, len(m)+1), values: make([]uintptr, len(m)+1), n: len(m)}
	for i, k := range slices.Sorted(maps.Keys(m)) {
		key, err := cString(k)
		if err != nil {
			p.err = err
			return p
		}
		value, err := cString(m[k])
		if err != nil {
			p.err = err
			return p
		}
		p.keys[i], p.values[i] = pinned(&p.pin, key), pinned(&p.pin, value)
	}
	return p
}
