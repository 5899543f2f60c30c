// Command embed continues a text with a model folder: all that a Go program
// needs to run a model, on one page.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

func main() {
	model := flag.String("model", "", "folder of an ONNX artifact, such as ./models/x/onnx/cpu/int8")
	prompt := flag.String("prompt", "Once upon a time", "text to continue")
	tokens := flag.Int("tokens", 100, "longest answer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *model, *prompt, *tokens, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, model, prompt string, tokens int, out io.Writer) error {
	// ONNX Runtime: named by a variable, or what setup fetched, or the system's.
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	const variable = "LLAMA_PAJAMAS_ONNXRUNTIME"
	library, err := nativelib.Find(nativelib.ONNXRuntime, nativelib.FindOptions{
		Env: os.Getenv(variable), EnvName: variable,
		CacheDir: filepath.Join(cache, "llama-pajamas"), SetupCommand: "llama-pajamas-run-onnx setup",
	})
	if err != nil {
		return err
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: library.Path})
	if err != nil {
		return err
	}
	defer backend.Close()

	// The model: its folder, a session with a cache of its own, its tokenizer.
	folder, err := modeldir.Open(model)
	if err != nil {
		return err
	}
	session, err := backend.Open(ctx, folder, infer.OpenOptions{})
	if err != nil {
		return err
	}
	defer session.Close()
	tok, err := tokenizer.Load(folder.Dir)
	if err != nil {
		return err
	}

	// The answer, token by token.
	answer := infer.Generate(session, tok.NewDecoder(true), tok.Encode(prompt, tokenizer.EncodeOptions{AddSpecial: true}), infer.Options{
		MaxTokens: tokens, StopTokens: chat.EndTokens(folder, tok), Vocab: tok.VocabSize(),
	})
	fmt.Fprint(out, prompt+" ")
	for token, err := range answer.Tokens(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprint(out, token.Text)
	}
	result := answer.Result()
	fmt.Fprintf(out, "\n\n%d tokens, %.0f a second, ended by %s\n", len(result.TokenIDs), result.Timings.DecodeRate(), result.Reason)
	return nil
}
