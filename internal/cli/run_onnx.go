package cli

import "github.com/spf13/cobra"

// runONNXCommand is the tree of llama-pajamas-run-onnx.
func runONNXCommand(c *common) *cobra.Command {
	return c.root("llama-pajamas-run-onnx", "Run ONNX language models", "Runs ONNX language models.")
}
