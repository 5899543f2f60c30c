// Command llama-pajamas-run runs language models in ONNX, GGUF or MLX form,
// whichever is best for the machine: chat, generate, list, setup, doctor.
package main

import (
	"os"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
)

func main() { os.Exit(cli.Main(cli.RunAny)) }
