package hardware

import (
	"errors"
	"fmt"

	"github.com/ebitengine/purego"
)

// loadNVML opens the library that comes with the driver. It stays open.
func loadNVML() (*nvml, error) {
	lib, err := purego.Dlopen("libnvidia-ml.so.1", purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, errors.New("libnvidia-ml.so.1 is not there: no NVIDIA driver")
	}
	n := &nvml{}
	for name, f := range map[string]any{
		"nvmlInit_v2":                         &n.init,
		"nvmlDeviceGetCount_v2":               &n.count,
		"nvmlDeviceGetHandleByIndex_v2":       &n.handle,
		"nvmlDeviceGetName":                   &n.name,
		"nvmlDeviceGetTotalEnergyConsumption": &n.energy,
		"nvmlErrorString":                     &n.text,
	} {
		at, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, fmt.Errorf("libnvidia-ml.so.1 has no function %s: the driver is too old", name)
		}
		purego.RegisterFunc(f, at)
	}
	return n, nil
}
