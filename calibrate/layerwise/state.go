package layerwise

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/llama-pajamas/llama-pajamas/calibrate"
)

// Metadata keys of a state file.
const (
	stateKey   = "state_of"
	stateLayer = "layers_done"
)

// hiddenName names the hidden states in a state file.
const hiddenName = "hidden.%d"

// saveState keeps what is known after done layers.
func saveState(o Options, done int, stats *calibrate.Stats, h *Hidden) error {
	var extra []calibrate.Vector
	for i, v := range h.values {
		extra = append(extra, calibrate.Vector{Name: fmt.Sprintf(hiddenName, i), Data: v})
	}
	return stats.Save(o.StateFile, map[string]string{stateKey: o.Key, stateLayer: strconv.Itoa(done)}, extra...)
}

// loadState goes on where a run of the same model and text was interrupted: it
// fills in stats and h and returns the layers done. A state that is missing,
// damaged or of something else counts as none.
func loadState(o Options, m *Model, stats *calibrate.Stats, h *Hidden) (int, error) {
	if o.StateFile == "" {
		return 0, nil
	}
	extra := make([]*calibrate.Vector, len(m.cut))
	for i := range extra {
		extra[i] = &calibrate.Vector{Name: fmt.Sprintf(hiddenName, i)}
	}
	found, meta, err := calibrate.Load(o.StateFile, m.spec, extra...)
	if err != nil || meta[stateKey] != o.Key {
		return 0, nil
	}
	done, err := strconv.Atoi(meta[stateLayer])
	if err != nil || done < 1 || done > m.spec.Layers {
		return 0, nil
	}
	var values [][]float32
	for _, v := range extra {
		if len(v.Data) != h.Windows*h.Tokens*m.spec.Hidden {
			return 0, nil
		}
		values = append(values, v.Data)
	}
	found.Source, found.Tokens = stats.Source, stats.Tokens
	*stats, h.values = *found, values
	return done, nil
}

func removeState(o Options) error {
	if o.StateFile == "" {
		return nil
	}
	if err := os.Remove(o.StateFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the calibration's state: %w", err)
	}
	return nil
}
