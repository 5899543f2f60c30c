package ort

import (
	"fmt"
	"unsafe"
)

// MemoryInfo says where a tensor lies.
type MemoryInfo struct {
	Name     string // "Cpu", "Cuda", "CudaPinned" or another provider's name
	DeviceID int
}

// CPUMemory is the computer's memory.
func CPUMemory() MemoryInfo { return MemoryInfo{Name: "Cpu"} }

// CUDAMemory is the memory of one NVIDIA device.
func CUDAMemory(device int) MemoryInfo { return MemoryInfo{Name: "Cuda", DeviceID: device} }

// CUDAPinnedMemory is the computer's memory locked for transfers to an NVIDIA
// device.
func CUDAPinnedMemory() MemoryInfo { return MemoryInfo{Name: "CudaPinned"} }

// IsHost reports whether the program can read and write the memory itself.
func (m MemoryInfo) IsHost() bool { return m.Name == "Cpu" || m.Name == "CudaPinned" }

// OrtAllocatorType and OrtMemType.
const (
	deviceAllocator  = 0
	memTypeDefault   = 0
	memTypeCPUOutput = ^uintptr(0) // -1: pinned memory is a provider's CPU output
)

// newMemoryInfo makes an OrtMemoryInfo; the caller releases it.
func (l *Library) newMemoryInfo(m MemoryInfo) (uintptr, error) {
	name, err := cString(m.Name)
	if err != nil {
		return 0, err
	}
	memType := uintptr(memTypeDefault)
	if m.Name == "CudaPinned" {
		memType = memTypeCPUOutput
	}
	var info uintptr
	err = l.check(l.call(fnCreateMemoryInfo, uintptr(unsafe.Pointer(&name[0])), deviceAllocator,
		uintptr(m.DeviceID), memType, uintptr(unsafe.Pointer(&info))))
	if err != nil {
		return 0, fmt.Errorf("describe memory %q of device %d: %w", m.Name, m.DeviceID, err)
	}
	return info, nil
}

// readMemoryInfo reads an OrtMemoryInfo that belongs to somebody else.
func (l *Library) readMemoryInfo(info uintptr) (MemoryInfo, error) {
	var name uintptr
	var id int32
	if err := l.check(l.call(fnMemoryInfoGetName, info, uintptr(unsafe.Pointer(&name)))); err != nil {
		return MemoryInfo{}, err
	}
	if err := l.check(l.call(fnMemoryInfoGetId, info, uintptr(unsafe.Pointer(&id)))); err != nil {
		return MemoryInfo{}, err
	}
	return MemoryInfo{Name: goString(name), DeviceID: int(id)}, nil
}
