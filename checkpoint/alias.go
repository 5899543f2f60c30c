package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Alias says how checkpoints of an architecture that package arch does not know
// are read as one of those it does, where both compute the same and only names
// differ. What is written from such a checkpoint names the known architecture,
// so that every runtime runs it.
type Alias struct {
	// Config turns config.json into that of the known architecture. It is given
	// the file and returns another; what it leaves in is honoured or refused as
	// in any config.json.
	Config func(configJSON []byte) ([]byte, error)
	// Tensor gives a tensor of the checkpoint the name that the known
	// architecture has for it. nil: names are the same.
	Tensor func(name string) string
}

// alias applies what the caller has for the checkpoint's class. A class that
// package arch knows is not looked up.
func (c *Checkpoint) alias(aliases map[string]Alias) error {
	var named struct {
		Architectures []string `json:"architectures"`
	}
	if len(aliases) == 0 || c.format != HuggingFace || json.Unmarshal(c.config, &named) != nil || len(named.Architectures) == 0 {
		return nil // arch.Parse says what is wrong with it
	}
	class := named.Architectures[0]
	a, ok := aliases[class]
	if !ok || slices.Contains(arch.Known(), class) {
		return nil
	}
	if a.Config != nil {
		config, err := a.Config(bytes.Clone(c.config))
		if err != nil {
			return fmt.Errorf("read config.json of %s as that of a known architecture: %w", class, err)
		}
		c.config = config
	}
	if a.Tensor == nil {
		return nil
	}
	renamed, seen := make([]*tensor.Tensor, len(c.tensors)), map[string]string{}
	for i, t := range c.tensors {
		r := *t
		r.Name = a.Tensor(t.Name)
		if first, ok := seen[r.Name]; ok {
			return fmt.Errorf("name the tensors of %s: %q and %q both become %q", class, first, t.Name, r.Name)
		}
		seen[r.Name], renamed[i] = t.Name, &r
	}
	c.setTensors(renamed)
	return nil
}
