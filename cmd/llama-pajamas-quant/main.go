// Command llama-pajamas-quant converts language-model checkpoints and shows
// what is in model files.
package main

import (
	"os"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
)

func main() { os.Exit(cli.Main(cli.Quant)) }
