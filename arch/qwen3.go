package arch

// qwen3: dense Qwen3: RMSNorm over head_dim of each query and key head before
// RoPE, head_dim independent of hidden_size/heads (default 128).
func qwen3(c *config, s *Spec) error {
	s.QKNorm = true
	s.HeadDim = c.integer("head_dim", 128)
	bias := c.boolean("attention_bias", false)
	s.QKVBias, s.OBias = bias, bias
	if !c.boolean("use_sliding_window", false) {
		c.used["sliding_window"] = true
	} else {
		c.used["use_sliding_window"] = false
	}
	return c.activation()
}
