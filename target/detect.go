package target

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/hardware"
)

// Machine is what package hardware says of a machine.
type Machine struct {
	CPU          hardware.CPU
	Memory       hardware.Memory
	Accelerators hardware.Accelerators
}

// DetectProfile is the best guess at a machine's profile. The profile is given
// the memory the machine really has, where that is known; fits is false where no
// profile names the machine and a general one stands in, whose bandwidth is not
// known.
func DetectProfile(m Machine) (p *Profile, fits bool, err error) {
	all, err := Profiles()
	if err != nil {
		return nil, false, err
	}
	var best *Profile
	bestScore := 0
	for i := range all {
		if score := all[i].Match.score(m); score > bestScore {
			best, bestScore = &all[i], score
		}
	}
	if best == nil { // nothing special: a plain CPU
		if best, err = FindProfile("cpu"); err != nil {
			return nil, false, err
		}
	}
	switch gpu := biggest(m.Accelerators.NVIDIA); {
	case best.Match.GPU != "" || best.Match.Nvidia:
		if gpu.TotalMemory > 0 {
			best.Memory = int64(gpu.TotalMemory)
		}
	case m.Memory.Total > 0:
		best.Memory = int64(m.Memory.Total)
	}
	return best, best.Bandwidth > 0, nil
}

// Weights of what a profile names: a board says more than a card, that more than
// its maker, that more than the processor's features.
const (
	scoreFeature = 1 << 8
	scoreArch    = 1 << 7
	scoreKind    = 1 << 12
	scoreCPU     = 1 << 14
	scoreBoard   = 1 << 16
)

// score is 0 where a condition fails, else the greater the more it names.
func (x match) score(m Machine) int {
	score := 0
	holds := func(asked, ok bool, worth int) bool {
		if asked {
			score += worth
		}
		return !asked || ok
	}
	has := func(name, part string) bool { return strings.Contains(strings.ToLower(name), strings.ToLower(part)) }
	// Names must end there: an RTX 4070 Ti and an M1 Pro have other memories.
	ends := func(name, part string) bool { return strings.HasSuffix(strings.ToLower(name), strings.ToLower(part)) }
	a := m.Accelerators
	features := " " + m.CPU.Features.String() + " "
	ok := holds(x.GPU != "", ends(biggest(a.NVIDIA).Name, x.GPU), scoreBoard+len(x.GPU)) &&
		holds(x.Jetson != "", has(a.Jetson, x.Jetson), 2*scoreBoard+len(x.Jetson)) &&
		holds(x.Nvidia, len(a.NVIDIA) > 0, scoreKind) &&
		holds(x.Apple, a.Apple, scoreKind) &&
		holds(x.CPU != "", ends(m.CPU.Name, x.CPU), scoreCPU+len(x.CPU)) &&
		holds(x.Arch != "", m.CPU.Arch == x.Arch, scoreArch)
	for _, f := range strings.Fields(x.Feature) {
		ok = ok && holds(true, strings.Contains(features, " "+f+" "), scoreFeature)
	}
	if !ok {
		return 0
	}
	return score
}

// biggest is the card with most memory, the first of equals; its zero value
// where there is none.
func biggest(gpus []hardware.GPU) hardware.GPU {
	var best hardware.GPU
	for i, g := range gpus {
		if i == 0 || g.TotalMemory > best.TotalMemory {
			best = g
		}
	}
	return best
}
