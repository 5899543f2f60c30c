package ort

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"
)

// TensorInfo describes an input or output of a model.
type TensorInfo struct {
	Name     string
	Type     ElementType // Undefined where it is not a tensor
	Shape    []int64     // -1 where the size is open
	DimNames []string    // the name of each open dimension, or ""
}

// Session is a loaded model.
type Session struct {
	lib     *Library
	env     *Env
	h       handle
	name    string // of the model, for errors
	inputs  []port
	outputs []port
}

// port is an input or output with its name as a C string, which the session
// keeps for every run.
type port struct {
	TensorInfo
	cName uintptr
}

// NewSession loads the model file at path. When ctx ends, loading stops at the
// library's next look at its cancel flag.
func (e *Env) NewSession(ctx context.Context, path string, o SessionOptions) (*Session, error) {
	name := filepath.Base(path)
	if dir := filepath.Base(filepath.Dir(path)); dir != "." && dir != string(filepath.Separator) {
		name = dir + string(filepath.Separator) + name
	}
	p, err := pathBytes(path)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", path, err)
	}
	s, err := e.newSession(ctx, name, o, func(opts uintptr, out *uintptr) uintptr {
		return e.lib.call(fnCreateSession, e.h.ptr, uintptr(unsafe.Pointer(&p[0])), opts, uintptr(unsafe.Pointer(out)))
	})
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", path, err)
	}
	return s, nil
}

// NewSessionFromBytes loads a model from memory, which may be given up
// afterwards. External data is looked for in the working directory unless
// o.ExternalFiles gives it.
func (e *Env) NewSessionFromBytes(ctx context.Context, model []byte, o SessionOptions) (*Session, error) {
	if len(model) == 0 {
		return nil, fmt.Errorf("load a model from memory: it is empty")
	}
	s, err := e.newSession(ctx, "the model in memory", o, func(opts uintptr, out *uintptr) uintptr {
		return e.lib.call(fnCreateSessionFromArray, e.h.ptr, uintptr(unsafe.Pointer(&model[0])), uintptr(len(model)),
			opts, uintptr(unsafe.Pointer(out)))
	})
	if err != nil {
		return nil, fmt.Errorf("load a model from memory: %w", err)
	}
	return s, nil
}

// newSession applies the options, lets create make the OrtSession and reads
// what the model takes and gives.
func (e *Env) newSession(ctx context.Context, name string, o SessionOptions, create func(opts uintptr, out *uintptr) uintptr) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := e.h.acquire("open a session", ""); err != nil {
		return nil, err
	}
	opts, err := e.lib.newOptions(o)
	if err != nil {
		e.h.release()
		return nil, err
	}
	defer opts.release()
	giveUp := func() {
		releaseValues(opts.held)
		e.h.release()
	}
	ptr, err := e.load(ctx, opts.ptr, create)
	runtime.KeepAlive(o)
	if err != nil {
		giveUp()
		return nil, err
	}
	s := &Session{lib: e.lib, env: e, name: name}
	s.h.init(ptr, func(p uintptr) {
		s.freeNames()
		e.lib.call(fnReleaseSession, p)
		giveUp()
	})
	if err := s.readPorts(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// load makes the OrtSession; the cancel flag of its options is set when ctx
// ends first.
func (e *Env) load(ctx context.Context, opts uintptr, create func(opts uintptr, out *uintptr) uintptr) (uintptr, error) {
	raised := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(raised)
		// A failure leaves the flag unset: the load runs to its end.
		_ = e.lib.check(e.lib.call(fnSessionOptionsSetLoadCancellationFlag, opts, 1))
	})
	ptr := new(uintptr)
	err := e.lib.check(create(opts, ptr))
	if !stop() {
		<-raised
		if err != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
	return *ptr, err
}

func (s *Session) readPorts() error {
	var err error
	s.inputs, err = s.ports("input", fnSessionGetInputCount, fnSessionGetInputName, fnSessionGetInputTypeInfo)
	if err != nil {
		return err
	}
	s.outputs, err = s.ports("output", fnSessionGetOutputCount, fnSessionGetOutputName, fnSessionGetOutputTypeInfo)
	return err
}

func (s *Session) ports(kind string, count, name, typeInfo int) ([]port, error) {
	l := s.lib
	var n uintptr
	if err := l.check(l.call(count, s.h.ptr, uintptr(unsafe.Pointer(&n)))); err != nil {
		return nil, fmt.Errorf("count %ss: %w", kind, err)
	}
	ports := make([]port, n)
	for i := range ports {
		p := &ports[i]
		if err := l.check(l.call(name, s.h.ptr, uintptr(i), l.allocator, uintptr(unsafe.Pointer(&p.cName)))); err != nil {
			return nil, fmt.Errorf("read the name of %s %d: %w", kind, i, err)
		}
		p.Name = goString(p.cName)
		var info uintptr
		if err := l.check(l.call(typeInfo, s.h.ptr, uintptr(i), uintptr(unsafe.Pointer(&info)))); err != nil {
			return ports, fmt.Errorf("read the type of %s %q: %w", kind, p.Name, err)
		}
		err := l.readTensorInfo(info, &p.TensorInfo)
		l.call(fnReleaseTypeInfo, info)
		if err != nil {
			return ports, fmt.Errorf("read the type of %s %q: %w", kind, p.Name, err)
		}
	}
	return ports, nil
}

// readTensorInfo reads OrtTypeInfo of a tensor; other types leave t as it is.
func (l *Library) readTensorInfo(info uintptr, t *TensorInfo) error {
	var tensor uintptr // belongs to info
	if err := l.check(l.call(fnCastTypeInfoToTensorInfo, info, uintptr(unsafe.Pointer(&tensor)))); err != nil || tensor == 0 {
		return err
	}
	var err error
	if t.Type, t.Shape, err = l.readTypeAndShape(tensor); err != nil {
		return err
	}
	names := make([]uintptr, len(t.Shape)+1)
	if err := l.check(l.call(fnGetSymbolicDimensions, tensor, uintptr(unsafe.Pointer(&names[0])), uintptr(len(t.Shape)))); err != nil {
		return err
	}
	t.DimNames = make([]string, len(t.Shape))
	for i := range t.DimNames {
		t.DimNames[i] = goString(names[i])
	}
	return nil
}

// freeNames gives the ports' C strings back. The library cannot fail to free
// its own string; there would be nobody to tell.
func (s *Session) freeNames() {
	for _, ports := range [][]port{s.inputs, s.outputs} {
		for i := range ports {
			_ = s.lib.free(ports[i].cName)
			ports[i].cName = 0
		}
	}
}

// Inputs describes what the model takes, in its order.
func (s *Session) Inputs() []TensorInfo { return infos(s.inputs) }

// Outputs describes what the model gives, in its order.
func (s *Session) Outputs() []TensorInfo { return infos(s.outputs) }

func infos(ports []port) []TensorInfo {
	list := make([]TensorInfo, len(ports))
	for i := range ports {
		list[i] = ports[i].TensorInfo
	}
	return list
}

// find returns the port called name, or an error that lists what there is.
func (s *Session) find(kind string, ports []port, name string) (*port, error) {
	for i := range ports {
		if ports[i].Name == name {
			return &ports[i], nil
		}
	}
	names := make([]string, len(ports))
	for i := range ports {
		names[i] = ports[i].Name
	}
	return nil, fmt.Errorf("%s has no %s %q; it has %s", s.name, kind, name, strings.Join(names, ", "))
}

// Name is the model's name in errors.
func (s *Session) Name() string { return s.name }

// Env is the environment the session belongs to.
func (s *Session) Env() *Env { return s.env }

// Library is the library the session belongs to.
func (s *Session) Library() *Library { return s.lib }

// checkOpen is an error after Close.
func (s *Session) checkOpen() error {
	if s.h.closed.Load() {
		return fmt.Errorf("run %s: %w", s.name, ErrClosed)
	}
	return nil
}

// Close frees the model once its runs and the values it allocated on devices
// are done.
func (s *Session) Close() { s.h.close() }

// EndProfiling ends profiling and returns the name of the file written.
func (s *Session) EndProfiling() (file string, err error) {
	if err := s.h.acquire("end profiling of", s.name); err != nil {
		return "", err
	}
	defer s.h.release()
	var p uintptr
	if err := s.lib.check(s.lib.call(fnSessionEndProfiling, s.h.ptr, s.lib.allocator, uintptr(unsafe.Pointer(&p)))); err != nil {
		return "", fmt.Errorf("end profiling of %s: %w", s.name, err)
	}
	file, err = s.lib.takeString(p)
	if err == nil && file == "" {
		err = fmt.Errorf("end profiling of %s: it was not switched on", s.name)
	}
	return file, err
}
