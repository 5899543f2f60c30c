package arch

// mistral: Mistral: Llama whose every layer may slide over the last
// sliding_window positions; there are no biases (modeling_mistral).
func mistral(c *config, s *Spec) error {
	c.window(s)
	return c.activation()
}
