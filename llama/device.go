package llama

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// DeviceType is enum ggml_backend_dev_type.
type DeviceType int32

// The types.
const (
	CPU           DeviceType = 0
	GPU           DeviceType = 1 // with memory of its own
	IntegratedGPU DeviceType = 2 // in the main memory
	Accelerator   DeviceType = 3 // used beside the CPU, such as BLAS or AMX
)

// String names the type.
func (t DeviceType) String() string {
	switch t {
	case CPU:
		return "CPU"
	case GPU:
		return "GPU"
	case IntegratedGPU:
		return "integrated GPU"
	case Accelerator:
		return "accelerator"
	}
	return fmt.Sprintf("type %d", int32(t))
}

// Device is what the library can compute with.
type Device struct {
	Name        string // "CPU", "CUDA0", "Vulkan0", "Metal", "RPC[host:port]"
	Description string // such as the card's name
	Backend     string // "CPU", "CUDA", "Vulkan", "Metal", "RPC"
	Type        DeviceType
	// Free and Total are bytes of memory, 0 where the device does not tell.
	Free, Total uint64

	handle uintptr
}

// Devices lists the devices in the library's order.
func (l *Library) Devices() []Device {
	n := l.api.devCount()
	list := make([]Device, 0, n)
	for i := range n {
		list = append(list, l.device(l.api.devGet(i)))
	}
	return list
}

func (l *Library) device(handle uintptr) Device {
	d := Device{
		Name: l.api.devName(handle), Description: strings.TrimSpace(l.api.devDescription(handle)),
		Type: DeviceType(l.api.devType(handle)), handle: handle,
	}
	if reg := l.api.devReg(handle); reg != 0 {
		d.Backend = l.api.regName(reg)
	}
	var memory struct{ free, total uintptr }
	l.api.devMemory(handle, unsafe.Pointer(&memory.free), unsafe.Pointer(&memory.total))
	d.Free, d.Total = uint64(memory.free), uint64(memory.total)
	return d
}

// AddRPC adds the devices of a machine that runs llama.cpp's rpc-server at
// endpoint, "host:port". The library ends the process where such a server does
// not answer later on.
func (l *Library) AddRPC(endpoint string) ([]Device, error) {
	if !l.SupportsRPC() {
		return nil, fmt.Errorf("add the machine %s: this build of llama.cpp has no RPC device (libggml-rpc); bring one built with GGML_RPC", endpoint)
	}
	reg := l.api.regByName("RPC")
	if reg == 0 {
		return nil, fmt.Errorf("add the machine %s: the library's RPC device is not registered", endpoint)
	}
	// ggml-rpc.h: ggml_backend_reg_t ggml_backend_rpc_add_server(const char *).
	addr := l.api.regProc(reg, "ggml_backend_rpc_add_server")
	if addr == 0 {
		return nil, fmt.Errorf("add the machine %s: the library's RPC device has no function to add servers", endpoint)
	}
	var add func(endpoint string) uintptr
	purego.RegisterFunc(&add, addr)
	l.log.forget()
	own := add(endpoint)
	if own == 0 {
		return nil, fmt.Errorf("add the machine %s: it does not answer%s", endpoint, l.log.tail())
	}
	l.api.registerReg(own)
	var list []Device
	for i := range l.api.regDevCount(own) {
		list = append(list, l.device(l.api.regDevGet(own, i)))
	}
	return list, nil
}
