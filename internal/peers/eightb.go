package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// largeReport is the conversion of a generated checkpoint of Qwen3-8B's shape.
type largeReport struct {
	SourceBytes int64   `json:"source_bytes"`
	OutputBytes int64   `json:"output_bytes"`
	Convert     use     `json:"convert"`
	DD          use     `json:"dd"`
	Ratio       float64 `json:"ratio"`
}

func (r *largeReport) String() string {
	return fmt.Sprintf("A generated checkpoint of Qwen3-8B's shape (%.1f GB of random bfloat16): int4 of %.1f GB in %.0f s, peak %.2f GB (goal ≤ 1.5: %s). "+
		"`dd` reads the same bytes and writes as many as the output has in %.0f s: × %.2f. Unverified; page cache of the source dropped before either.\n",
		float64(r.SourceBytes)/1e9, float64(r.OutputBytes)/1e9, r.Convert.Seconds, float64(r.Convert.PeakRSS)/1e9, verdict(r.Convert.PeakRSS <= 1.5e9), r.DD.Seconds, r.Ratio)
}

// qwen3Config is the config.json of Qwen3-8B, as far as the shape goes.
var qwen3Config = map[string]any{
	"architectures": []string{"Qwen3ForCausalLM"}, "model_type": "qwen3", "torch_dtype": "bfloat16", "hidden_act": "silu",
	"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
	"head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
	"tie_word_embeddings": false, "attention_bias": false, "eos_token_id": 151645, "bos_token_id": 151643,
}

// large writes the checkpoint, converts it, and times dd on the same bytes.
func (o *convertOptions) large(ctx context.Context, shop *workshop) (_ *largeReport, err error) {
	root, err := os.MkdirTemp(shop.dir, "qwen3-8b-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	src, out := filepath.Join(root, "hf"), filepath.Join(root, "out")
	o.note("writing a checkpoint of Qwen3-8B's shape")
	tokenizer, err := os.ReadFile(filepath.Join(shop.dir, "plain", "hf", "tokenizer.json"))
	if err != nil {
		return nil, fmt.Errorf("a tokenizer to put beside it (run `peers quality` or `peers speed` once before): %w", err)
	}
	if _, err := writeLarge(ctx, src, tokenizer, qwen3Config); err != nil {
		return nil, err
	}
	shards, err := filepath.Glob(filepath.Join(src, "*.safetensors"))
	if err != nil {
		return nil, err
	}
	r := &largeReport{}
	if err := dropCache(ctx, shards); err != nil {
		return nil, err
	}
	r.Convert, err = runMeasured(ctx, os.Environ(), []string{o.program, "convert", "--quiet", "--no-verify", "--no-base", "--model", src,
		"--output", out, "--target-eps", "cpu", "--target-precisions", "int4"})
	if err != nil {
		return nil, fmt.Errorf("convert the checkpoint: %w", err)
	}
	err = filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err == nil && statErr == nil && !d.IsDir() {
			r.OutputBytes += info.Size()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(out), dropCache(ctx, shards)); err != nil {
		return nil, err
	}
	start := time.Now()
	left := r.OutputBytes
	for _, shard := range shards {
		st, err := os.Stat(shard)
		if err != nil {
			return nil, err
		}
		r.SourceBytes += st.Size()
		// Each shard is read whole; the first bytes of them are written.
		n := min(left, st.Size()) >> 22
		left -= n << 22
		script := `dd if="$1" bs=4M count="$2" of="$3" conv=fsync status=none && dd if="$1" bs=4M skip="$2" of=/dev/null status=none && rm "$3"`
		if _, err := runMeasured(ctx, os.Environ(), []string{"sh", "-c", script, "sh", shard, fmt.Sprint(n), filepath.Join(root, "copy")}); err != nil {
			return nil, fmt.Errorf("dd: %w", err)
		}
	}
	r.DD.Seconds = time.Since(start).Seconds()
	r.Ratio = r.Convert.Seconds / r.DD.Seconds
	return r, nil
}

// dropCache writes files out and drops their pages from memory.
func dropCache(ctx context.Context, files []string) error {
	for _, f := range files {
		if _, err := runMeasured(ctx, os.Environ(), []string{"sh", "-c", `sync "$1" && dd if="$1" iflag=nocache count=0 status=none`, "sh", f}); err != nil {
			return fmt.Errorf("drop %s from the page cache: %w", filepath.Base(f), err)
		}
	}
	return nil
}

// writeLarge writes the folder: random weights of a plausible size (standard
// deviation about 0.02, 8 bits of mantissa), the norms ones.
func writeLarge(ctx context.Context, dir string, tokenizer []byte, config map[string]any) (*arch.Spec, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644),
		os.WriteFile(filepath.Join(dir, "tokenizer.json"), tokenizer, 0o644)); err != nil {
		return nil, err
	}
	spec, err := arch.Parse(text)
	if err != nil {
		return nil, err
	}
	w := safetensors.NewShardedWriter(dir, safetensors.ShardOptions{MaxBytes: 4 << 30})
	weights := spec.Weights()
	for _, x := range weights {
		w.Declare(safetensors.Decl{Name: x.Name, Type: "BF16", Shape: x.Shape})
	}
	noise := newNoise()
	for _, x := range weights {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, _ := x.Shape.Elements()
		data := &noiseWriter{noise: noise, n: n, ones: !x.Role.IsMatrix()}
		if err := w.WriteTensor(x.Name, data); err != nil {
			return nil, err
		}
	}
	return spec, w.Close()
}

// noise is 1 M bfloat16 values, which tensors begin at different places of:
// drawing 8 G values would take longer than converting them.
type noise struct {
	bytes []byte
	rng   *rand.Rand
}

func newNoise() *noise {
	n := &noise{bytes: make([]byte, 2<<20), rng: rand.New(rand.NewPCG(8, 8))}
	for i := 0; i < len(n.bytes); i += 2 {
		binary.LittleEndian.PutUint16(n.bytes[i:], bfloat16(0.02*n.rng.NormFloat64()))
	}
	return n
}

type noiseWriter struct {
	*noise
	n    int64
	ones bool
}

// WriteTo implements io.WriterTo.
func (w *noiseWriter) WriteTo(out io.Writer) (int64, error) {
	var done int64
	for done < 2*w.n {
		part := w.bytes[2*w.rng.IntN(len(w.bytes)/4):]
		part = part[:min(int64(len(part)), 2*w.n-done)]
		if w.ones {
			part = make([]byte, len(part))
			for i := 0; i < len(part); i += 2 {
				binary.LittleEndian.PutUint16(part[i:], bfloat16(1))
			}
		}
		n, err := out.Write(part)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func bfloat16(x float64) uint16 { return tensor.F32ToBF16(float32(x)) }
