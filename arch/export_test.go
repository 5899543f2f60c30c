package arch

import (
	"maps"
	"slices"
)

// GuardedKeys lists the keys that must be off where no parser honours them.
func GuardedKeys() []string { return slices.Sorted(maps.Keys(neutral)) }
