//go:build !linux

package hardware

import "errors"

func loadNVML() (*nvml, error) { return nil, errors.New("it is read on Linux only") }
