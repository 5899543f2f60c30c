package checkpoint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ggufScript prints each tensor's Hugging Face name, shape and the sha256 of
// its float32 values, and at last the template's sha256. It knows nothing of
// the Go code: names and row order are spelled out here once more.
const ggufScript = `
import sys, hashlib, re, gguf, numpy as np
r = gguf.GGUFReader(sys.argv[1])
heads = r.get_field("llama.attention.head_count").contents()
kv = r.get_field("llama.attention.head_count_kv").contents()
parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
  "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
for t in r.tensors:
    w = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
    name = names.get(t.name)
    m = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", t.name)
    if m:
        name = "model.layers.%s.%s.weight" % (m[1], parts[m[2]])
        n = {"attn_q": heads, "attn_k": kv}.get(m[2])
        if n:  # undo reshape(n, 2, d/2, cols).swapaxes(1, 2)
            w = w.reshape(n, w.shape[0] // n // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
    print(name, "x".join(map(str, w.shape)), hashlib.sha256(np.ascontiguousarray(w).tobytes()).hexdigest())
print("template", hashlib.sha256(r.get_field("tokenizer.chat_template").contents().encode()).hexdigest())
`

func TestSmolLM2Oracle(t *testing.T) {
	path := oracle.SampleGGUF(t)
	c, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spec, err := arch.Parse(c.Config())
	if err != nil {
		t.Fatalf("%v\n%s", err, c.Config())
	}
	if err := c.Check(spec.Weights()); err != nil {
		t.Fatal(err)
	}
	if extra := c.Extra(spec.Weights()); len(extra) > 0 {
		t.Errorf("extra tensors: %v", extra)
	}
	out := strings.TrimSpace(string(oracle.Run(t, ggufScript, nil, path)))
	tensors := 0
	for line := range strings.SplitSeq(out, "\n") {
		f := strings.Fields(line)
		if f[0] == "template" {
			checkTemplate(t, c, f[1])
			continue
		}
		w, ok := c.Tensor(f[0])
		if !ok {
			t.Errorf("no tensor %s", f[0])
			continue
		}
		if got := strings.Trim(strings.ReplaceAll(w.Shape.String(), ", ", "x"), "[]"); got != f[1] {
			t.Errorf("%s: shape %s, oracle has %s", f[0], got, f[1])
			continue
		}
		if got := hashTensor(t, w); got != f[2] {
			t.Errorf("%s: values differ from the oracle's", f[0])
		}
		tensors++
	}
	if tensors != len(c.Tensors()) || tensors < 272 {
		t.Errorf("compared %d tensors, the checkpoint has %d", tensors, len(c.Tensors()))
	}
}

func checkTemplate(t *testing.T, c *checkpoint.Checkpoint, want string) {
	t.Helper()
	f, ok := c.SupportFile("chat_template.jinja")
	if !ok {
		t.Error("no chat_template.jinja")
		return
	}
	b, err := f.Data()
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
		t.Errorf("the template differs from the file's key")
	}
}

// hashTensor reads in pieces that end in the middle of rows, blocks and heads.
func hashTensor(t *testing.T, w *tensor.Tensor) string {
	t.Helper()
	h := sha256.New()
	left, off := w.Elements(), int64(0)
	step := int64(100_003)
	buf := make([]float32, step)
	raw := make([]byte, 4*step)
	for left > 0 {
		n := min(step, left)
		if err := w.ReadFloat32(buf[:n], off); err != nil {
			t.Fatal(err)
		}
		tensor.EncodeF32(raw, buf[:n])
		h.Write(raw[:4*n])
		left, off = left-n, off+n
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestHeadRows reads every range of a small permuted tensor and compares with
// the rows read one by one.
func TestHeadRows(t *testing.T) {
	path := oracle.SampleGGUF(t)
	c, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, _ := c.Tensor("model.layers.3.self_attn.k_proj.weight")
	all := make([]float32, w.Elements())
	for row := range w.Shape[0] { // one row at a time takes the other path
		if err := w.ReadFloat32(all[row*576:(row+1)*576], int64(row)*576); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []int{0, 1, 575, 576, 577, 31 * 576, 64 * 576, 64*576 + 5, 100 * 576} {
		for _, n := range []int{0, 1, 575, 576, 1153, 20 * 576, 64 * 576, 90*576 + 3} {
			got := make([]float32, n)
			if err := w.ReadFloat32(got, int64(from)); err != nil {
				t.Fatal(err)
			}
			raw, want := make([]byte, 4*n), make([]byte, 4*n)
			tensor.EncodeF32(raw, got)
			tensor.EncodeF32(want, all[from:from+n])
			if !bytes.Equal(raw, want) {
				t.Fatalf("elements %d+%d differ", from, n)
			}
		}
	}
}
