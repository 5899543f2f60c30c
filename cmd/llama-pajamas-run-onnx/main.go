// Command llama-pajamas-run-onnx runs ONNX language models: chat, generate,
// tokenize, and what is needed for them.
package main

import (
	"os"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
)

func main() { os.Exit(cli.Main(cli.RunONNX)) }
