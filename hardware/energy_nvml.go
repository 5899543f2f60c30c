package hardware

import "fmt"

// nvml is the part of NVIDIA's management library that is used here. Results are
// nvmlReturn_t, 0 for success.
//
// https://docs.nvidia.com/deploy/nvml-api/
type nvml struct {
	init   func() int32
	count  func(n *uint32) int32
	handle func(index uint32, device *uintptr) int32
	name   func(device uintptr, text *byte, length uint32) int32
	energy func(device uintptr, millijoules *uint64) int32
	text   func(result int32) string
}

// check makes an error of a result.
func (n *nvml) check(what string, result int32) error {
	if result == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s (result %d)", what, n.text(result), result)
}

// nvmlCounters lists the cards whose driver counts energy: Volta and later.
func nvmlCounters(load func() (*nvml, error)) ([]EnergyCounter, error) {
	n, err := load()
	if err != nil {
		return nil, err
	}
	if err := n.check("start the library", n.init()); err != nil {
		return nil, err
	}
	var cards uint32
	if err := n.check("count the cards", n.count(&cards)); err != nil {
		return nil, err
	}
	var out []EnergyCounter
	var first error
	for i := range cards {
		var device uintptr
		err := n.check(fmt.Sprintf("open card %d", i), n.handle(i, &device))
		if err == nil {
			c := EnergyCounter{Kind: "NVML", Name: fmt.Sprintf("card %d", i), Accelerator: true, read: func() (uint64, error) {
				var mj uint64
				err := n.check("ask for the energy", n.energy(device, &mj))
				return 1000 * mj, err
			}}
			text := make([]byte, 96) // NVML_DEVICE_NAME_V2_BUFFER_SIZE
			if n.name(device, &text[0], uint32(len(text))) == 0 {
				c.Name = untilZero(text)
			}
			if _, err = c.read(); err == nil {
				out = append(out, c)
				continue
			}
		}
		if first == nil {
			first = err
		}
	}
	if len(out) == 0 && first == nil {
		first = fmt.Errorf("it knows no card")
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, first
}

func untilZero(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
