package onnxruntime

import "github.com/shirou/gopsutil/v4/mem"

// freeMemory is the memory that can be had without swapping, 0 if the system
// does not tell.
func freeMemory() int64 {
	v, err := mem.VirtualMemory()
	if err != nil {
		return 0
	}
	return int64(v.Available)
}
