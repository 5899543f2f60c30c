package arch

// preparePhi3: Phi-3 and Phi-4: RoPE may turn a part of each head
// (configuration_phi3).
func preparePhi3(c *config) { c.partialRoPE = true }

// phi3: Llama with q, k and v in one tensor, gate and up in another, and a
// sliding window in some (modeling_phi3).
func phi3(c *config, s *Spec) error {
	s.Packed = true
	c.window(s)
	return c.activation()
}
