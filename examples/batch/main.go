// Command batch answers a file of prompts, one a line, several at a time.
package main

import (
	"bufio"
	"context"
	"encoding/json"
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

type options struct {
	model         string
	slots, tokens int
}

func main() {
	var o options
	flag.StringVar(&o.model, "model", "", "folder of an ONNX artifact, such as ./models/x/onnx/cpu/int8")
	flag.IntVar(&o.slots, "slots", 4, "how many answers are made at once")
	flag.IntVar(&o.tokens, "tokens", 64, "longest answer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	prompts, err := os.Open(flag.Arg(0))
	if err == nil {
		defer prompts.Close()
		err = run(ctx, o, prompts, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "batch:", err)
		os.Exit(1)
	}
}

// answer is one line of the output.
type answer struct {
	Prompt string `json:"prompt"`
	Text   string `json:"text"`
	Tokens int    `json:"tokens"`
	Reason string `json:"finish_reason"`
	Error  string `json:"error,omitempty"`
}

func run(ctx context.Context, o options, in io.Reader, out io.Writer) error {
	session, folder, closeAll, err := open(ctx, o.model)
	if err != nil {
		return err
	}
	defer closeAll()
	tok, err := tokenizer.Load(folder.Dir)
	if err != nil {
		return err
	}
	batch, err := onnxruntime.NewBatch(ctx, session, o.slots)
	if err != nil {
		return err
	}
	defer batch.Close()

	// A request is taken from the file when there is room for it.
	var prompts []string
	lines := bufio.NewScanner(in)
	requests := func(yield func(infer.BatchRequest) bool) {
		for lines.Scan() {
			prompts = append(prompts, lines.Text())
			if !yield(infer.BatchRequest{
				Prompt:  tok.Encode(lines.Text(), tokenizer.EncodeOptions{AddSpecial: true}),
				Decoder: tok.NewDecoder(true),
				Options: infer.Options{MaxTokens: o.tokens, StopTokens: chat.EndTokens(folder, tok), Vocab: tok.VocabSize()},
			}) {
				return
			}
		}
	}

	// Answers come as they end; they are written in the order of the prompts.
	encoder, done, next := json.NewEncoder(out), map[int]answer{}, 0
	for a, err := range infer.GenerateBatch(ctx, batch, requests) {
		if err != nil {
			return err
		}
		line := answer{Prompt: prompts[a.Index], Text: a.Result.Text, Tokens: len(a.Result.TokenIDs), Reason: string(a.Result.Reason)}
		if a.Err != nil { // of this prompt alone, such as one too long
			line.Error = a.Err.Error()
		}
		for done[a.Index] = line; ; next++ {
			line, ok := done[next]
			if !ok {
				break
			}
			delete(done, next)
			if err := encoder.Encode(line); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// open loads the model; see the example embed for what each step is.
func open(ctx context.Context, model string) (infer.Session, *modeldir.Folder, func(), error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, nil, nil, err
	}
	const variable = "LLAMA_PAJAMAS_ONNXRUNTIME"
	library, err := nativelib.Find(nativelib.ONNXRuntime, nativelib.FindOptions{
		Env: os.Getenv(variable), EnvName: variable,
		CacheDir: filepath.Join(cache, "llama-pajamas"), SetupCommand: "llama-pajamas-run-onnx setup",
	})
	if err != nil {
		return nil, nil, nil, err
	}
	folder, err := modeldir.Open(model)
	if err != nil {
		return nil, nil, nil, err
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: library.Path})
	if err != nil {
		return nil, nil, nil, err
	}
	session, err := backend.Open(ctx, folder, infer.OpenOptions{})
	if err != nil {
		backend.Close()
		return nil, nil, nil, err
	}
	return session, folder, func() { session.Close(); backend.Close() }, nil
}
