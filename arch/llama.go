package arch

// llama: Llama 2 and 3, SmolLM2 and the many checkpoints that use their class.
// attention_bias adds biases to all four projections (modeling_llama).
func llama(c *config, s *Spec) error {
	bias := c.boolean("attention_bias", false)
	s.QKVBias, s.OBias = bias, bias
	return c.activation()
}
