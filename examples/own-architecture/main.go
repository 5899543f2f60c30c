// Command own-architecture converts checkpoints of EXAONE 3, a class that the
// converter does not know, whose arithmetic is a Llama's under other names.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
)

func main() {
	model := flag.String("model", "", "folder of a checkpoint of EXAONE 3")
	output := flag.String("output", "", "folder to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *model, *output); err != nil {
		fmt.Fprintln(os.Stderr, "own-architecture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, model, output string) (err error) {
	ck, err := checkpoint.Open(ctx, model, checkpoint.Options{Aliases: map[string]checkpoint.Alias{
		"ExaoneForCausalLM": {Config: asLlama, Tensor: llamaName},
	}})
	if err != nil {
		return err
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, convert.Options{
		Output:  output,
		NoBase:  true,
		Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int8"}}},
	})
	if err != nil {
		return err
	}
	if err := job.Write(ctx); err != nil {
		return fmt.Errorf("%w; %w", err, job.Discard())
	}
	if err := job.WriteMetadata(ctx); err != nil {
		return err
	}
	return job.Publish()
}

// asLlama is config.json in a Llama's words. What both call the same stays; what
// is left of EXAONE's own is refused by the reader if it would change the result.
func asLlama(config []byte) ([]byte, error) {
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	for theirs, ours := range map[string]string{
		"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps", "activation_function": "hidden_act",
	} {
		if v, ok := c[theirs]; ok {
			c[ours] = v
			delete(c, theirs)
		}
	}
	c["architectures"], c["model_type"] = []string{"LlamaForCausalLM"}, "llama"
	return json.Marshal(c)
}

// names are EXAONE's names of tensors, or parts of them, and a Llama's.
var names = strings.NewReplacer(
	"transformer.wte.", "model.embed_tokens.", "transformer.ln_f.", "model.norm.", "transformer.h.", "model.layers.",
	".ln_1.", ".input_layernorm.", ".ln_2.", ".post_attention_layernorm.",
	".attn.attention.out_proj.", ".self_attn.o_proj.", ".attn.attention.", ".self_attn.",
	".c_fc_0.", ".gate_proj.", ".c_fc_1.", ".up_proj.", ".c_proj.", ".down_proj.",
)

func llamaName(tensor string) string { return names.Replace(tensor) }
