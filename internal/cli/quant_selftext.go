package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// calibrationSelf lets the model write what it is calibrated with: the text
// nearest to what it will compute, in whatever languages it speaks.
const calibrationSelf = "self"

// selfTextRequest goes to the child process as JSON on standard input.
type selfTextRequest struct {
	Library string  `json:"library"`
	Model   string  `json:"model"`
	LoRA    string  `json:"lora,omitempty"`
	Threads int     `json:"threads"`
	Dir     string  `json:"dir"` // for the model that writes, removed afterwards
	Prefix  []int32 `json:"prefix"`
	Windows int     `json:"windows"`
	Length  int     `json:"length"`
	Seed    uint64  `json:"seed"`
}

// selfTextChild names the hidden command that runs in the child process.
const selfTextChild = "write-calibration"

// selfWindows has a child process convert the checkpoint to 8 bits and write
// windows of tokens.
func (c *common) selfWindows(ctx context.Context, library string, ck *checkpoint.Checkpoint, o calibration) ([][]int32, error) {
	_, prefix, err := calibrationIDs(ck, "a")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "llama-pajamas-self-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the model that writes: %w", err)
	}
	defer os.RemoveAll(dir)
	length := min(layerwise.Window, o.tokens)
	req := selfTextRequest{
		Library: library, Model: ck.Path(), LoRA: ck.Adapter(), Threads: c.Threads, Dir: dir,
		Prefix: prefix, Windows: max(1, o.tokens/length), Length: length, Seed: o.seed,
	}
	bar := c.newProgress("writing a text", int64(req.Windows*req.Length))
	defer bar.stop()
	progress := func(done int) { bar.set(int64(done), 0) }
	var windows [][]int32
	if c.Program == "" {
		return selfTextHere(ctx, req, progress)
	}
	return windows, c.layerwise(ctx, selfTextChild, req, progress, &windows)
}

// selfTextHere samples each window at temperature 1 after a first token drawn
// at random (Liu et al. 2023, LLM-QAT, section 2.1).
func selfTextHere(ctx context.Context, req selfTextRequest, progress func(done int)) (_ [][]int32, err error) {
	ck, err := checkpoint.Open(ctx, req.Model, checkpoint.Options{LoRA: req.LoRA})
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	out := filepath.Join(req.Dir, "model")
	job, err := convert.New(ctx, ck, convert.Options{Output: out, NoBase: true, Workers: req.Threads, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int8"}}}})
	if err != nil {
		return nil, err
	}
	if err = job.Write(ctx); err == nil {
		if err = job.WriteMetadata(ctx); err == nil {
			err = job.Publish()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("convert the model that writes the text: %w", err)
	}
	folder, err := modeldir.Open(filepath.Join(out, "onnx", "cpu", "int8", modeldir.ModelFile))
	if err != nil {
		return nil, err
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: req.Library})
	if err != nil {
		return nil, err
	}
	session, err := backend.Open(ctx, folder, infer.OpenOptions{Context: req.Length, Threads: req.Threads})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	vocab := session.Info().Vocab
	first := rand.New(rand.NewPCG(req.Seed, 1))
	var windows [][]int32
	for w := range req.Windows {
		sampler, err := infer.NewSampler(infer.SamplerOptions{Temperature: 1, Seed: req.Seed + uint64(w) + 1}, vocab)
		if err != nil {
			return nil, err
		}
		if err := session.Truncate(0); err != nil {
			return nil, err
		}
		next := append([]int32(nil), req.Prefix...)
		next = append(next, int32(first.IntN(vocab)))
		ids := append([]int32(nil), next...)
		for len(ids) < req.Length {
			logits, err := session.Eval(ctx, next)
			if err != nil {
				return nil, fmt.Errorf("write a text to calibrate with: %w", err)
			}
			id, err := sampler.Sample(logits)
			if err != nil {
				return nil, fmt.Errorf("write a text to calibrate with: %w", err)
			}
			next = []int32{id}
			ids = append(ids, id)
			if len(ids)%16 == 0 {
				progress(w*req.Length + len(ids))
			}
		}
		windows = append(windows, ids)
	}
	return windows, nil
}

// selfTextChildCommand is the child's side.
func selfTextChildCommand(c *common) *cobra.Command {
	cmd := command(selfTextChild, "", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req selfTextRequest
		if err := json.NewDecoder(bufio.NewReader(io.LimitReader(c.In, 1<<20))).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if req.Windows < 1 || req.Length < 2 {
			return errors.New("nothing to write")
		}
		out := json.NewEncoder(c.Out)
		windows, err := selfTextHere(cmd.Context(), req, func(done int) { _ = out.Encode(calibrateLine{Done: done}) })
		if err != nil {
			return out.Encode(calibrateLine{Error: err.Error()})
		}
		b, err := json.Marshal(windows)
		if err != nil {
			return err
		}
		return out.Encode(calibrateLine{Done: req.Windows * req.Length, Result: b})
	})
	cmd.Hidden = true
	return cmd
}
