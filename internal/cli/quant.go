package cli

import "github.com/spf13/cobra"

// quantCommand is the tree of llama-pajamas-quant.
func quantCommand(c *common) *cobra.Command {
	root := c.root("llama-pajamas-quant",
		"Convert language-model checkpoints for the hardware they will run on",
		`Converts a language-model checkpoint (a Hugging Face folder or a GGUF file) to
quantized ONNX models, checks what it wrote, and shows what is in model files.`)
	c.bindLlamaLibrary(root)
	root.AddCommand(convertCommand(c), inspectCommand(c), verifyChildCommand(c),
		verifyCommand(c), compareCommand(c), benchChildCommand(c), askChildCommand(c),
		calibrateCommand(c), imatrixCommand(c), calibrateChildCommand(c), mixChildCommand(c), selfTextChildCommand(c), sensitivityCommand(c))
	return root
}
