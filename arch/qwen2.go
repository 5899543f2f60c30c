package arch

// qwen2: Qwen2 and Qwen2.5: q, k and v have biases, o has none. sliding_window
// is honoured by transformers only where use_sliding_window is true, which the
// common check then refuses.
func qwen2(c *config, s *Spec) error {
	s.QKVBias = true
	if !c.boolean("use_sliding_window", false) {
		c.used["sliding_window"] = true
	} else {
		c.used["use_sliding_window"] = false
	}
	return c.activation()
}
