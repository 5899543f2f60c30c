package layerwise

import (
	"testing"
	"time"
)

// SetSaveEvery changes how often the state is kept, for one test.
func SetSaveEvery(t *testing.T, d time.Duration) {
	old := saveEvery
	saveEvery = d
	t.Cleanup(func() { saveEvery = old })
}
