package llama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Version is the release of llama.cpp whose structs this package passes.
const Version = "0.5.0"

// Options of [Open]. The zero value works.
type Options struct {
	// Logger gets the library's messages at the level the library gives them,
	// but its information as debug; nil is silent.
	Logger *slog.Logger
	// OnAbort, where not nil, hears why before the library ends the process, in
	// place of the backtrace that it would print.
	OnAbort func(why string)
}

// Library is a loaded llama.cpp with its devices. It stays loaded until the
// program ends.
type Library struct {
	path    string
	version string
	api     functions
	log     *logSink
	strlen  uintptr // of the C library; see flag
	onAbort func(why string)
}

// functions are the library's, by their C names.
type functions struct {
	llamaVersion              func() string
	backendInit               func()
	systemInfo                func() string
	maxDevices                func() uintptr
	supportsGPU, supportsRPC  func() bool
	logSet                    func(callback uintptr, user uintptr)
	abortSet                  func(callback uintptr) uintptr
	modelDefaults             func() modelParams
	contextDefaults           func() contextParams
	modelLoad                 func(path string, p modelParams) uintptr
	modelFree                 func(model uintptr)
	modelVocab                func(model uintptr) uintptr
	modelSize, modelParams    func(model uintptr) uint64
	modelCtxTrain, modelLayer func(model uintptr) int32
	modelEmbd, modelHeadKV    func(model uintptr) int32
	modelSWA                  func(model uintptr) int32
	modelDesc                 func(model uintptr, buf unsafe.Pointer, size uintptr) int32
	modelRecurrent            func(model uintptr) bool
	modelHybrid               func(model uintptr) bool
	modelHasEncoder           func(model uintptr) bool
	initFromModel             func(model uintptr, p contextParams) uintptr
	free                      func(ctx uintptr)
	nCtx, nBatch              func(ctx uintptr) uint32
	setThreads                func(ctx uintptr, decode, batch int32)
	setAbort                  func(ctx uintptr, callback uintptr, data unsafe.Pointer)
	decode                    func(ctx uintptr, b batch) int32
	synchronize               func(ctx uintptr)
	logitsIth                 func(ctx uintptr, i int32) uintptr
	memory                    func(ctx uintptr) uintptr
	memoryClear               func(mem uintptr, data bool)
	memorySeqRm               func(mem uintptr, seq, from, to int32) bool
	memoryPosMin              func(mem uintptr, seq int32) int32
	memoryPosMax              func(mem uintptr, seq int32) int32
	vocabTokens               func(vocab uintptr) int32
	vocabBOS, vocabEOS        func(vocab uintptr) int32
	vocabAddBOS               func(vocab uintptr) bool
	vocabIsEOG                func(vocab uintptr, id int32) bool
	vocabText                 func(vocab uintptr, id int32) string
	tokenize                  func(vocab uintptr, text unsafe.Pointer, n int32, ids unsafe.Pointer, most int32, special, parse bool) int32
	tokenToPiece              func(vocab uintptr, id int32, buf unsafe.Pointer, n, lstrip int32, special bool) int32
	stateSize                 func(ctx uintptr, seq int32) uintptr
	stateGet                  func(ctx uintptr, dst unsafe.Pointer, size uintptr, seq int32) uintptr
	stateSet                  func(ctx uintptr, src unsafe.Pointer, size uintptr, seq int32) uintptr

	loadAll        func(dir string)
	devCount       func() uintptr
	devGet         func(i uintptr) uintptr
	devName        func(dev uintptr) string
	devDescription func(dev uintptr) string
	devType        func(dev uintptr) int32
	devMemory      func(dev uintptr, free, total unsafe.Pointer)
	devReg         func(dev uintptr) uintptr
	regByName      func(name string) uintptr
	regName        func(reg uintptr) string
	regProc        func(reg uintptr, name string) uintptr
	regDevCount    func(reg uintptr) uintptr
	regDevGet      func(reg uintptr, i uintptr) uintptr
	registerReg    func(reg uintptr)
}

// table maps the C names to the fields.
func (f *functions) table() map[string]any {
	return map[string]any{
		"llama_version": &f.llamaVersion, "llama_backend_init": &f.backendInit, "llama_print_system_info": &f.systemInfo,
		"llama_max_devices": &f.maxDevices, "llama_supports_gpu_offload": &f.supportsGPU, "llama_supports_rpc": &f.supportsRPC,
		"llama_log_set": &f.logSet, "ggml_set_abort_callback": &f.abortSet, "llama_model_default_params": &f.modelDefaults, "llama_context_default_params": &f.contextDefaults,
		"llama_model_load_from_file": &f.modelLoad, "llama_model_free": &f.modelFree, "llama_model_get_vocab": &f.modelVocab,
		"llama_model_size": &f.modelSize, "llama_model_n_params": &f.modelParams, "llama_model_n_ctx_train": &f.modelCtxTrain,
		"llama_model_n_layer": &f.modelLayer, "llama_model_n_embd": &f.modelEmbd, "llama_model_n_head_kv": &f.modelHeadKV,
		"llama_model_n_swa": &f.modelSWA, "llama_model_desc": &f.modelDesc, "llama_model_is_recurrent": &f.modelRecurrent,
		"llama_model_is_hybrid": &f.modelHybrid, "llama_model_has_encoder": &f.modelHasEncoder,
		"llama_init_from_model": &f.initFromModel, "llama_free": &f.free, "llama_n_ctx": &f.nCtx, "llama_n_batch": &f.nBatch,
		"llama_set_n_threads": &f.setThreads, "llama_set_abort_callback": &f.setAbort, "llama_decode": &f.decode,
		"llama_synchronize": &f.synchronize, "llama_get_logits_ith": &f.logitsIth, "llama_get_memory": &f.memory,
		"llama_memory_clear": &f.memoryClear, "llama_memory_seq_rm": &f.memorySeqRm,
		"llama_memory_seq_pos_min": &f.memoryPosMin, "llama_memory_seq_pos_max": &f.memoryPosMax,
		"llama_vocab_n_tokens": &f.vocabTokens, "llama_vocab_bos": &f.vocabBOS, "llama_vocab_eos": &f.vocabEOS,
		"llama_vocab_get_add_bos": &f.vocabAddBOS, "llama_vocab_is_eog": &f.vocabIsEOG, "llama_vocab_get_text": &f.vocabText,
		"llama_tokenize": &f.tokenize, "llama_token_to_piece": &f.tokenToPiece,
		"llama_state_seq_get_size": &f.stateSize, "llama_state_seq_get_data": &f.stateGet, "llama_state_seq_set_data": &f.stateSet,

		"ggml_backend_load_all_from_path": &f.loadAll, "ggml_backend_dev_count": &f.devCount, "ggml_backend_dev_get": &f.devGet,
		"ggml_backend_dev_name": &f.devName, "ggml_backend_dev_description": &f.devDescription, "ggml_backend_dev_type": &f.devType,
		"ggml_backend_dev_memory": &f.devMemory, "ggml_backend_dev_backend_reg": &f.devReg, "ggml_backend_reg_by_name": &f.regByName,
		"ggml_backend_reg_name": &f.regName, "ggml_backend_reg_get_proc_address": &f.regProc, "ggml_backend_register": &f.registerReg,
		"ggml_backend_reg_dev_count": &f.regDevCount, "ggml_backend_reg_dev_get": &f.regDevGet,
	}
}

// opening keeps two Opens from loading the devices twice: llama.cpp has one
// list of them for the process.
var opening sync.Mutex

// Open loads the shared library at path (libllama), with the device libraries
// (libggml-*) that lie beside it, and refuses versions other than [Version].
func Open(path string, o Options) (*Library, error) {
	opening.Lock()
	defer opening.Unlock()
	l := &Library{path: path, log: &logSink{log: o.Logger}, onAbort: o.OnAbort}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("load llama.cpp from %s: %w", path, err)
	}
	return l, nil
}

func (l *Library) open() error {
	find, err := loadLibrary(l.path)
	if err != nil {
		return err
	}
	if l.version, err = versionOf(find); err != nil {
		return err
	}
	for name, fn := range l.api.table() {
		addr, err := find(name)
		if err != nil {
			return fmt.Errorf("version %s of it has no function %s: use the build that setup fetches", l.version, name)
		}
		purego.RegisterFunc(fn, addr)
	}
	if err := l.checkStructs(); err != nil {
		return err
	}
	if l.strlen, err = libcStrlen(); err != nil {
		return err
	}
	l.api.logSet(purego.NewCallback(l.log.callback), 0)
	if l.onAbort != nil {
		l.api.abortSet(purego.NewCallback(func(text uintptr) uintptr {
			l.onAbort(strings.TrimSpace(goString(text)) + l.log.tail())
			return 0
		}))
	}
	l.api.backendInit()
	if l.api.devCount() > 0 {
		return nil // a Library of this process has loaded them
	}
	// The libraries for this processor and its cards lie beside the library
	// under the names that load_all looks for.
	dir, err := filepath.Abs(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	l.api.loadAll(dir)
	if l.api.devCount() == 0 {
		return fmt.Errorf("it has no device to compute with: the libggml-cpu library for this processor is missing in %s%s", dir, l.log.tail())
	}
	return nil
}

// versionOf asks the library's version, the only call that is safe whatever
// the version is, and refuses what is not [Version]. Releases call themselves
// "0.5.0-dev".
func versionOf(find func(string) (uintptr, error)) (string, error) {
	addr, err := find("llama_version")
	if err != nil {
		return "", fmt.Errorf("it does not tell its version, so it is not llama.cpp v%s; run setup, or bring a build of that version", Version)
	}
	var ask func() string
	purego.RegisterFunc(&ask, addr)
	v := ask()
	if number, _, _ := strings.Cut(v, "-"); number != Version {
		return "", fmt.Errorf("its version is %q, this program works with llama.cpp v%s alone, as other versions have other structs; run setup, or bring a build of that version", v, Version)
	}
	return v, nil
}

// checkStructs compares the library's defaults with those of [Version]: where a
// field lies elsewhere, a value is not found.
func (l *Library) checkStructs() error {
	m, c := l.api.modelDefaults(), l.api.contextDefaults()
	if !m.isDefault() || !c.isDefault() {
		return fmt.Errorf("it calls itself %s but its parameters are not those of llama.cpp v%s: a changed build; run setup", l.version, Version)
	}
	return nil
}

// Version is the library's version, such as "0.5.0-dev".
func (l *Library) Version() string { return l.version }

// Path is the file the library was loaded from.
func (l *Library) Path() string { return l.path }

// SystemInfo is the library's line about processor features in use.
func (l *Library) SystemInfo() string { return strings.TrimSpace(l.api.systemInfo()) }

// SupportsGPU reports whether a device other than the CPU is there.
func (l *Library) SupportsGPU() bool { return l.api.supportsGPU() }

// SupportsRPC reports whether the library can compute on other machines.
func (l *Library) SupportsRPC() bool { return l.api.supportsRPC() }

// logSink passes the library's messages to a logger and keeps the last errors
// for the error to be returned.
type logSink struct {
	mu     sync.Mutex
	log    *slog.Logger
	last   slog.Level
	errors []string
}

// GGML_LOG_LEVEL_* (ggml.h).
const (
	ggmlLogInfo  = 2
	ggmlLogWarn  = 3
	ggmlLogError = 4
	ggmlLogCont  = 5 // goes on with the message before
)

// maxErrors bounds the messages kept for one error.
const maxErrors = 4

// callback is ggml_log_callback.
func (s *logSink) callback(level int32, text uintptr, _ uintptr) uintptr {
	msg := strings.TrimSpace(goString(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch level {
	case ggmlLogCont:
	case ggmlLogError:
		s.last = slog.LevelError
	case ggmlLogWarn:
		s.last = slog.LevelWarn
	default:
		s.last = slog.LevelDebug
	}
	if msg == "" || strings.Trim(msg, ".") == "" { // dots of progress
		return 0
	}
	if s.last == slog.LevelError {
		if s.errors = append(s.errors, msg); len(s.errors) > maxErrors {
			s.errors = s.errors[1:]
		}
	}
	if s.log != nil {
		// What is an error to the library comes back as this package's error.
		at := s.last
		if at == slog.LevelError {
			at = slog.LevelDebug
		}
		s.log.Log(context.Background(), at, "llama.cpp", "message", msg)
	}
	return 0
}

// forget drops the errors kept.
func (s *logSink) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors = nil
}

// tail is the errors kept, as the end of a sentence.
func (s *logSink) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errors) == 0 {
		return ""
	}
	return ": " + strings.Join(s.errors, "; ")
}

var errClosed = errors.New("it is closed")

// pointer turns an address that C returned into a pointer. The memory is not
// Go's, so the garbage collector neither moves nor frees it.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// goString copies a zero-terminated string from C memory.
func goString(addr uintptr) string {
	if addr == 0 {
		return ""
	}
	p := pointer(addr)
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}
