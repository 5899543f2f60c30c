package arch

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// expertNames are how checkpoints name the weights of experts.
var expertNames = map[string]struct{ router, expert, gate, up, down string }{
	"MixtralForCausalLM":  {"block_sparse_moe.gate.weight", "block_sparse_moe.experts.%d.%s.weight", "w1", "w3", "w2"},
	"Qwen3MoeForCausalLM": {"mlp.gate.weight", "mlp.experts.%d.%s.weight", "gate_proj", "up_proj", "down_proj"},
}

// mixtral: Mistral with experts in place of the MLP; the softmax is over those
// that are used (modeling_mixtral).
func mixtral(c *config, s *Spec) error {
	c.window(s)
	s.Experts, s.ExpertWidth, s.NormTopK = c.integer("num_local_experts", 8), s.Intermediate, true
	return c.experts(s, 2)
}

// qwen3moe: Qwen3 with experts in every layer (modeling_qwen3_moe).
func qwen3moe(c *config, s *Spec) error {
	if err := qwen3(c, s); err != nil {
		return err
	}
	s.Experts, s.ExpertWidth = c.integer("num_experts", 128), c.integer("moe_intermediate_size", 768)
	s.NormTopK = c.boolean("norm_topk_prob", false)
	if list, _ := c.m["mlp_only_layers"].([]any); len(list) > 0 || c.integer("decoder_sparse_step", 1) != 1 {
		return &tensor.UnsupportedError{What: fmt.Sprintf("config.json: mlp_only_layers %v, decoder_sparse_step %v", list, c.m["decoder_sparse_step"]), Hint: "only experts in every layer"}
	}
	return c.experts(s, 8)
}

// experts reads what mixtures of experts share.
func (c *config) experts(s *Spec, used int) error {
	s.ExpertsUsed = c.integer("num_experts_per_tok", used)
	if c.err == nil && (s.Experts < 1 || s.Experts > 1<<12 || s.ExpertsUsed < 1 || s.ExpertsUsed > s.Experts || s.ExpertWidth < 1 || s.ExpertWidth > 1<<22) {
		return &tensor.FormatError{Offset: -1, Field: "config.json", Err: fmt.Errorf("%d experts of width %d, %d used: not the sizes of a model", s.Experts, s.ExpertWidth, s.ExpertsUsed)}
	}
	return c.activation()
}
