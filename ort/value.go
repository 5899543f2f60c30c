package ort

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"
)

// Value is a tensor. Its memory is a Go slice given by the caller, or belongs
// to the library or a device.
type Value struct {
	lib   *Library
	res   *valueResource
	elem  ElementType
	shape []int64
	where MemoryInfo
	mem   []byte  // the Go slice; nil for memory of the library
	addr  uintptr // first byte of the library's memory; 0 for a Go slice
	bytes int     // size of the tensor, at most len(mem)
	info  uintptr // of a view: OrtMemoryInfo of the tensor it looks at
	room  int     // of a view: size of that tensor
}

// valueResource is what must be given back: the OrtValue, the pin on the Go
// slice, and the session whose allocator made the memory. It is apart from
// Value so that a cleanup can reach it after the Value is gone.
type valueResource struct {
	handle
	pin  runtime.Pinner
	args [7]uintptr // of the calls Reshape makes
}

// zeroByte is the address of tensors without elements, which C wants not to
// be null.
var zeroByte [1]byte

// NewTensor wraps data, which must have as many elements as shape says, as a
// tensor. Nothing is copied: the library reads and writes data itself. A shape
// of no dimensions is a scalar.
func NewTensor[T Element](l *Library, data []T, shape ...int64) (*Value, error) {
	var zero T
	mem := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(zero)))
	return NewTensorBytes(l, ElementOf[T](), mem, shape...)
}

// NewTensorBytes wraps the little-endian elements in mem as a tensor, like
// [NewTensor]. Elements of less than 8 bits are packed, the first in the
// lowest bits. mem should be aligned to the element's size; it may be memory
// outside the Go heap, such as a mapped file, which must then stay mapped
// until the value is closed.
func NewTensorBytes(l *Library, t ElementType, mem []byte, shape ...int64) (*Value, error) {
	size, err := sizeOf(t, shape)
	if err != nil {
		return nil, fmt.Errorf("make a %v tensor: %w", t, err)
	}
	if size != len(mem) {
		return nil, fmt.Errorf("make a %v tensor of shape %v: it needs %d bytes, the data has %d", t, shape, size, len(mem))
	}
	v := &Value{lib: l, res: &valueResource{}, elem: t, shape: slices.Clone(shape), where: CPUMemory(), mem: mem, bytes: size}
	if err := v.create(); err != nil {
		return nil, err
	}
	if len(mem) > 0 {
		v.res.pin.Pin(unsafe.SliceData(mem))
	}
	res := v.res
	res.init(v.res.ptr, func(uintptr) {
		l.call(fnReleaseValue, res.ptr)
		res.pin.Unpin()
	})
	// The runtime panics when it finds a pin that was lost, so a value that
	// was not closed is unpinned when it is collected. By then no Call or
	// Binding can reach it either.
	runtime.AddCleanup(v, func(r *valueResource) { r.abandon() }, res)
	return v, nil
}

// create makes the OrtValue over v's memory with v's type and shape.
func (v *Value) create() error {
	args := &v.res.args
	if v.info != 0 {
		args[0], args[1] = v.info, v.addr
	} else {
		data := v.mem
		if len(data) == 0 {
			data = zeroByte[:]
		}
		args[0], args[1] = v.lib.cpu, uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	}
	args[2] = uintptr(v.bytes)
	args[3], args[4] = uintptr(unsafe.Pointer(unsafe.SliceData(v.shape))), uintptr(len(v.shape))
	args[5], args[6] = uintptr(v.elem), uintptr(unsafe.Pointer(&v.res.ptr))
	err := v.lib.check(v.lib.callArgs(fnCreateTensorWithDataAsOrtValue, args[:]))
	runtime.KeepAlive(v)
	if err != nil {
		return fmt.Errorf("make a %v tensor of shape %v: %w", v.elem, v.shape, err)
	}
	return nil
}

// View is a tensor over the first bytes of one the library allocated, in
// whatever memory that lies. It keeps that one from being freed until it is
// closed, and can be given other shapes by [Value.Reshape].
func (v *Value) View(shape ...int64) (*Value, error) {
	if v.addr == 0 || v.info != 0 {
		return nil, fmt.Errorf("view a tensor: its memory is not the library's own")
	}
	size, err := sizeOf(v.elem, shape)
	if err != nil {
		return nil, fmt.Errorf("view a tensor: %w", err)
	}
	if size > v.bytes {
		return nil, fmt.Errorf("view a %v tensor as %v: it needs %d bytes, the tensor has %d", v.elem, slices.Clone(shape), size, v.bytes)
	}
	if err := v.res.acquire("view a tensor", ""); err != nil {
		return nil, err
	}
	view := &Value{lib: v.lib, res: &valueResource{}, elem: v.elem, shape: slices.Clone(shape), where: v.where, addr: v.addr, bytes: size, room: v.bytes}
	err = v.lib.check(v.lib.call(fnGetTensorMemoryInfo, v.res.ptr, uintptr(unsafe.Pointer(&view.info))))
	if err == nil {
		err = view.create()
	}
	if err != nil {
		v.res.release()
		return nil, fmt.Errorf("view a tensor: %w", err)
	}
	res, base := view.res, v.res
	res.init(res.ptr, func(uintptr) {
		v.lib.call(fnReleaseValue, res.ptr)
		base.release()
	})
	return view, nil
}

// Reshape gives a tensor over Go memory, or a view, another shape, which may
// need fewer bytes than the memory has: a buffer allocated once serves a length
// that grows. It is free of garbage. No run may be using the value; a Binding
// must bind it again.
func (v *Value) Reshape(shape ...int64) error {
	if err := v.res.acquire("reshape a tensor", ""); err != nil {
		return err
	}
	defer v.res.release()
	if v.mem == nil && v.info == 0 {
		return fmt.Errorf("reshape a tensor: its memory belongs to the library")
	}
	size, err := sizeOf(v.elem, shape)
	if err != nil {
		return fmt.Errorf("reshape a tensor: %w", err)
	}
	if room := max(len(v.mem), v.room); size > room {
		return fmt.Errorf("reshape a %v tensor to %v: it needs %d bytes, the data has %d", v.elem, slices.Clone(shape), size, room)
	}
	old := v.res.ptr
	v.shape = append(v.shape[:0], shape...)
	v.bytes = size
	if err := v.create(); err != nil { // not expected: size and type were checked
		v.res.ptr = old
		return err
	}
	v.res.args[0] = old
	v.lib.callArgs(fnReleaseValue, v.res.args[:1])
	return nil
}

// NewAllocated makes a tensor in CPU memory of the library, not initialized.
func (e *Env) NewAllocated(t ElementType, shape ...int64) (*Value, error) {
	if err := e.h.acquire("allocate a tensor", ""); err != nil {
		return nil, err
	}
	defer e.h.release()
	return e.lib.allocate(e.lib.allocator, nil, t, shape)
}

// NewAllocated makes a tensor in memory of a device the session uses, not
// initialized. The session is freed only after the tensor.
func (s *Session) NewAllocated(where MemoryInfo, t ElementType, shape ...int64) (*Value, error) {
	if err := s.h.acquire("allocate a tensor for", s.name); err != nil {
		return nil, err
	}
	alloc, err := s.newAllocator(where)
	if err != nil {
		s.h.release()
		return nil, err
	}
	done := func() {
		s.lib.call(fnReleaseAllocator, alloc)
		s.h.release()
	}
	v, err := s.lib.allocate(alloc, done, t, shape)
	if err != nil {
		done()
	}
	return v, err
}

func (s *Session) newAllocator(where MemoryInfo) (uintptr, error) {
	info, err := s.lib.newMemoryInfo(where)
	if err != nil {
		return 0, err
	}
	defer s.lib.call(fnReleaseMemoryInfo, info)
	var alloc uintptr
	if err := s.lib.check(s.lib.call(fnCreateAllocator, s.h.ptr, info, uintptr(unsafe.Pointer(&alloc)))); err != nil {
		return 0, fmt.Errorf("get an allocator of %s memory for %s: %w", where.Name, s.name, err)
	}
	return alloc, nil
}

// allocate makes a tensor with an OrtAllocator; done runs after it is freed.
func (l *Library) allocate(alloc uintptr, done func(), t ElementType, shape []int64) (*Value, error) {
	if _, err := sizeOf(t, shape); err != nil {
		return nil, fmt.Errorf("allocate a %v tensor: %w", t, err)
	}
	var ptr uintptr
	err := l.check(l.call(fnCreateTensorAsOrtValue, alloc, uintptr(unsafe.Pointer(unsafe.SliceData(shape))),
		uintptr(len(shape)), uintptr(t), uintptr(unsafe.Pointer(&ptr))))
	if err != nil {
		return nil, fmt.Errorf("allocate a %v tensor of shape %v: %w", t, shape, err)
	}
	return l.adopt(ptr, done)
}

// adopt wraps an OrtValue made by the library and takes it over. Such a value
// has no cleanup: slices over its memory do not keep it alive, so only Close
// may free it. When adopt fails the OrtValue is freed, and done not run.
func (l *Library) adopt(ptr uintptr, done func()) (*Value, error) {
	v := &Value{lib: l, res: &valueResource{}}
	if err := v.describe(ptr); err != nil {
		l.call(fnReleaseValue, ptr)
		return nil, err
	}
	v.res.init(ptr, func(p uintptr) {
		l.call(fnReleaseValue, p)
		if done != nil {
			done()
		}
	})
	return v, nil
}

// describe reads type, shape and place of a tensor of the library.
func (v *Value) describe(ptr uintptr) error {
	l := v.lib
	var isTensor int32
	if err := l.check(l.call(fnIsTensor, ptr, uintptr(unsafe.Pointer(&isTensor)))); err != nil {
		return fmt.Errorf("read a value: %w", err)
	}
	if isTensor == 0 {
		return fmt.Errorf("read a value: it is a sequence, map or sparse tensor, which is not supported here")
	}
	var info uintptr
	if err := l.check(l.call(fnGetTensorTypeAndShape, ptr, uintptr(unsafe.Pointer(&info)))); err != nil {
		return fmt.Errorf("read a tensor's shape: %w", err)
	}
	defer l.call(fnReleaseTensorTypeAndShapeInfo, info)
	var err error
	if v.elem, v.shape, err = l.readTypeAndShape(info); err != nil {
		return fmt.Errorf("read a tensor's shape: %w", err)
	}
	if v.bytes, err = sizeOf(v.elem, v.shape); err != nil {
		return fmt.Errorf("read a tensor: %w", err)
	}
	if err := l.check(l.call(fnGetTensorMutableData, ptr, uintptr(unsafe.Pointer(&v.addr)))); err != nil {
		return fmt.Errorf("read a tensor's address: %w", err)
	}
	var mem uintptr
	if err := l.check(l.call(fnGetTensorMemoryInfo, ptr, uintptr(unsafe.Pointer(&mem)))); err != nil {
		return fmt.Errorf("read a tensor's place: %w", err)
	}
	v.where, err = l.readMemoryInfo(mem)
	return err
}

// readTypeAndShape reads OrtTensorTypeAndShapeInfo; unknown dimensions are -1.
func (l *Library) readTypeAndShape(info uintptr) (ElementType, []int64, error) {
	var elem uint32
	var rank uintptr
	if err := l.check(l.call(fnGetTensorElementType, info, uintptr(unsafe.Pointer(&elem)))); err != nil {
		return 0, nil, err
	}
	if err := l.check(l.call(fnGetDimensionsCount, info, uintptr(unsafe.Pointer(&rank)))); err != nil {
		return 0, nil, err
	}
	shape := make([]int64, rank)
	if rank > 0 {
		if err := l.check(l.call(fnGetDimensions, info, uintptr(unsafe.Pointer(&shape[0])), rank)); err != nil {
			return 0, nil, err
		}
	}
	return ElementType(elem), shape, nil
}

// Type is the element type.
func (v *Value) Type() ElementType { return v.elem }

// Shape is the tensor's dimensions. The caller must not change them.
func (v *Value) Shape() []int64 { return v.shape }

// Location says where the tensor's memory lies.
func (v *Value) Location() MemoryInfo { return v.where }

// Bytes is the tensor's memory itself, not a copy. Memory of the library is
// valid until the value is closed; memory of a device cannot be read so.
func (v *Value) Bytes() ([]byte, error) {
	if v.res.closed.Load() {
		return nil, fmt.Errorf("read a tensor: %w", ErrClosed)
	}
	if v.mem != nil || v.bytes == 0 {
		return v.mem[:v.bytes], nil
	}
	if !v.where.IsHost() {
		return nil, fmt.Errorf("read a tensor: it lies in %s memory of device %d; copy it to the host first", v.where.Name, v.where.DeviceID)
	}
	return unsafe.Slice((*byte)(pointer(v.addr)), v.bytes), nil
}

// Data is the tensor's elements themselves, like [Value.Bytes].
func Data[T Element](v *Value) ([]T, error) {
	if want := ElementOf[T](); v.elem != want {
		return nil, fmt.Errorf("read a tensor: its elements are %v, not %v", v.elem, want)
	}
	b, err := v.Bytes()
	if err != nil {
		return nil, err
	}
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero))), nil
}

// Close gives the tensor's memory back or unpins the Go slice, once no Call or
// Binding holds the value.
func (v *Value) Close() { v.res.close() }

// Copy copies each src tensor to the dst tensor of the same place in the list:
// between devices, or between the host and a device. Types and shapes must be
// equal.
func (e *Env) Copy(dst, src []*Value) error {
	if err := e.h.acquire("copy tensors", ""); err != nil {
		return err
	}
	defer e.h.release()
	if len(dst) != len(src) {
		return fmt.Errorf("copy tensors: %d sources for %d destinations", len(src), len(dst))
	}
	held, err := acquireValues("copy tensors", src, dst)
	defer releaseValues(held)
	if err != nil {
		return err
	}
	var from, to []uintptr
	for i, s := range src {
		d := dst[i]
		if d.elem != s.elem || !slices.Equal(d.shape, s.shape) {
			return fmt.Errorf("copy tensors: tensor %d is %v %v, its destination %v %v", i, s.elem, s.shape, d.elem, d.shape)
		}
		if s.where.IsHost() && d.where.IsHost() { // the library does not copy within the host
			if err := copyHost(d, s); err != nil {
				return err
			}
			continue
		}
		from, to = append(from, s.res.ptr), append(to, d.res.ptr)
	}
	if len(from) == 0 {
		return nil
	}
	err = e.lib.check(e.lib.call(fnCopyTensors, e.h.ptr, uintptr(unsafe.Pointer(&from[0])),
		uintptr(unsafe.Pointer(&to[0])), 0, uintptr(len(from))))
	if err != nil {
		return fmt.Errorf("copy %d tensors: %w", len(from), err)
	}
	return nil
}

func copyHost(dst, src *Value) error {
	d, err := dst.Bytes()
	if err != nil {
		return err
	}
	s, err := src.Bytes()
	if err != nil {
		return err
	}
	copy(d, s)
	return nil
}

// acquireValues takes a use of every value; the caller releases those
// returned, also after an error.
func acquireValues(what string, lists ...[]*Value) ([]*Value, error) {
	var held []*Value
	for _, list := range lists {
		for _, v := range list {
			if v == nil {
				return held, fmt.Errorf("%s: a value is nil", what)
			}
			if err := v.res.acquire(what, ""); err != nil {
				return held, err
			}
			held = append(held, v)
		}
	}
	return held, nil
}

func releaseValues(held []*Value) {
	for _, v := range held {
		v.res.release()
	}
}
