package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// ggufFile names the report.
const ggufFile = "gguf"

// ggufOptions are the flags of the gguf command.
type ggufOptions struct {
	setup
	rounds    int
	converter string
	shape     bool
	types     string
}

// ggufReport is its outcome.
type ggufReport struct {
	Machine machine          `json:"machine"`
	Rounds  int              `json:"rounds"`
	Runs    []*conversion    `json:"runs"`
	Claims  []claim          `json:"claims"`
	Equal   []ggufEqual      `json:"equal"`
	Shape   *ggufShapeReport `json:"shape_1_5b,omitempty"`
}

// ggufEqual counts the tensors of a type that have the peer's bytes.
type ggufEqual struct {
	Type    string `json:"type"`
	Tensors int    `json:"tensors"`
	Equal   int    `json:"equal"`
}

// ggufShapeReport is the conversion of a generated checkpoint of 1.5 billion
// weights.
type ggufShapeReport struct {
	Parameters int64 `json:"parameters"`
	Convert    use   `json:"convert"`
}

// quantizeOnly prints the seconds that llama_model_quantize takes, without
// those of starting Python.
const quantizeOnly = `
import pathlib, time
lib = load_library(pathlib.Path(sys.argv[1]))
p = lib.llama_model_quantize_default_params()
p.ftype, p.nthread = int(sys.argv[4]), int(sys.argv[5])
start = time.perf_counter()
rc = lib.llama_model_quantize(sys.argv[2].encode(), sys.argv[3].encode(), c.byref(p))
print(time.perf_counter() - start)
sys.exit(rc)
`

// qwen15B is the shape of Qwen2.5-1.5B.
var qwen15B = map[string]any{
	"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2", "torch_dtype": "bfloat16", "hidden_act": "silu",
	"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
	"vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
	"tie_word_embeddings": true, "use_sliding_window": false, "eos_token_id": 151645, "bos_token_id": 151643,
}

// ggufSpeed times conversions of a BF16 folder to Q4_K_M, and compares tensors.
func ggufSpeed(ctx context.Context, o ggufOptions) error {
	shop, backend, err := o.open(ctx)
	if err != nil {
		return err
	}
	backend.Close()
	if o.converter == "" {
		o.converter = filepath.Join(filepath.Dir(filepath.Dir(o.work)), "oracle", "llama.cpp-source-v0.5.0")
	}
	script := filepath.Join(o.converter, "convert_hf_to_gguf.py")
	if _, err := os.Stat(script); err != nil {
		return fmt.Errorf("llama.cpp's converter: %w (go test ./convert -run TestGGUFIsTheConverters -record-converter unpacks it)", err)
	}
	folder, err := halfSample(ctx, o.source, shop.dir)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(shop.dir, "gguf-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	report := ggufReport{Machine: describeMachine(ctx), Rounds: o.rounds}
	if w := report.Machine.warn(); w != "" {
		o.note("warning: %s", w)
	}
	bf16 := filepath.Join(dir, "bf16.gguf")
	threads := strconv.Itoa(o.threads)
	convert := []string{shop.python, script, folder, "--outtype", "bf16", "--outfile", bf16}
	if _, err := runMeasured(ctx, append(os.Environ(), "HF_HUB_OFFLINE=1"), convert); err != nil {
		return fmt.Errorf("convert_hf_to_gguf.py: %w", err)
	}
	quantize := func(out string, t togguf.FileType) []string {
		return []string{shop.python, "-c", oracle.LlamaCppModule + quantizeOnly, shop.llamaLib, bf16, out, strconv.Itoa(int(t)), threads}
	}
	ours := func(out string, types ...string) []string {
		return []string{o.program, "convert", "--quiet", "--threads", threads, "--model", folder, "--output", out, "--formats", "gguf", "--gguf-precision", strings.Join(types, ",")}
	}
	if report.Equal, err = o.equal(ctx, dir, ours, quantize); err != nil {
		return err
	}
	mine := &conversion{Name: "llama-pajamas Q4_K_M"}
	both := &conversion{Name: "convert_hf_to_gguf.py + llama_model_quantize"}
	alone := &conversion{Name: "llama_model_quantize"}
	report.Runs = []*conversion{mine, both, alone}
	for round := range o.rounds {
		for i := range 2 {
			if err := o.round(ctx, dir, (i+round)%2 == 0, mine, both, alone, ours, convert, quantize); err != nil {
				return err
			}
		}
	}
	report.Claims = []claim{
		newClaim("time, theirs / ours", mine.Name, both.Name, both.Seconds, mine.Seconds, goal{atLeast: 3}),
		newClaim("time, theirs / ours", mine.Name, alone.Name, alone.Seconds, mine.Seconds, goal{atLeast: 1}),
	}
	if o.shape {
		if report.Shape, err = o.shape15(ctx, dir, shop); err != nil {
			return err
		}
	}
	return report.write(o.out)
}

// round runs one of the two ways once: ours, or theirs in its two steps.
func (o *ggufOptions) round(ctx context.Context, dir string, first bool, mine, both, alone *conversion,
	ours func(string, ...string) []string, convert []string, quantize func(string, togguf.FileType) []string) error {
	out := filepath.Join(dir, "out")
	defer os.RemoveAll(out)
	env := append(os.Environ(), "HF_HUB_OFFLINE=1")
	if first {
		u, err := runMeasured(ctx, env, ours(out, "Q4_K_M"))
		if err != nil {
			return fmt.Errorf("%s: %w", mine.Name, err)
		}
		mine.Seconds, mine.PeakRSS = append(mine.Seconds, u.Seconds), append(mine.PeakRSS, float64(u.PeakRSS))
		o.note("%-46s %.2f s, %.0f MB", mine.Name, u.Seconds, float64(u.PeakRSS)/1e6)
		return nil
	}
	one, err := runMeasured(ctx, env, convert)
	if err != nil {
		return fmt.Errorf("convert_hf_to_gguf.py: %w", err)
	}
	argv := quantize(out, togguf.Q4_K_M)
	// The script prints the seconds of the call into a file.
	printed := filepath.Join(dir, "seconds")
	two, err := runMeasured(ctx, env, append([]string{"sh", "-c", `out=$1; shift; "$@" > "$out"`, "sh", printed}, argv...))
	if err != nil {
		return fmt.Errorf("%s: %w", alone.Name, err)
	}
	b, err := os.ReadFile(printed)
	if err != nil {
		return err
	}
	call, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil {
		return fmt.Errorf("%s printed %q", alone.Name, b)
	}
	both.Seconds, both.PeakRSS = append(both.Seconds, one.Seconds+call), append(both.PeakRSS, float64(max(one.PeakRSS, two.PeakRSS)))
	alone.Seconds, alone.PeakRSS = append(alone.Seconds, call), append(alone.PeakRSS, float64(two.PeakRSS))
	o.note("%-46s %.2f s, %.0f MB", both.Name, one.Seconds+call, float64(max(one.PeakRSS, two.PeakRSS))/1e6)
	o.note("%-46s %.2f s, %.0f MB", alone.Name, call, float64(two.PeakRSS)/1e6)
	return nil
}

// equal compares the tensors of every type with what llama_model_quantize makes
// of the file of llama.cpp's own converter.
func (o *ggufOptions) equal(ctx context.Context, dir string, ours func(string, ...string) []string, quantize func(string, togguf.FileType) []string) ([]ggufEqual, error) {
	out := filepath.Join(dir, "all")
	defer os.RemoveAll(out)
	if o.types == "" {
		return nil, nil
	}
	types := strings.Split(o.types, ",")
	if _, err := runMeasured(ctx, os.Environ(), ours(out, types...)); err != nil {
		return nil, err
	}
	var list []ggufEqual
	for _, name := range types {
		t, err := togguf.ParseFileType(name)
		if err != nil {
			return nil, err
		}
		theirs := filepath.Join(dir, "theirs.gguf")
		if _, err := runMeasured(ctx, os.Environ(), quantize(theirs, t)); err != nil {
			return nil, fmt.Errorf("llama_model_quantize %s: %w", name, err)
		}
		found, err := filepath.Glob(filepath.Join(out, "gguf", name, "*.gguf"))
		if err != nil || len(found) != 1 {
			return nil, errors.Join(err, fmt.Errorf("%s: files are %q", name, found))
		}
		e, err := sameGGUF(found[0], theirs)
		if err != nil {
			return nil, err
		}
		e.Type = name
		o.note("%-8s %d of %d tensors have the same bytes", name, e.Equal, e.Tensors)
		list = append(list, e)
		if err := os.Remove(theirs); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// sameGGUF compares the tensors of two files by name, type, shape and bytes.
func sameGGUF(ours, theirs string) (ggufEqual, error) {
	var e ggufEqual
	a, err := gguf.Open(ours)
	if err != nil {
		return e, err
	}
	defer a.Close()
	b, err := gguf.Open(theirs)
	if err != nil {
		return e, err
	}
	defer b.Close()
	if len(a.Infos()) != len(b.Infos()) {
		return e, fmt.Errorf("%s has %d tensors, %s %d", ours, len(a.Infos()), theirs, len(b.Infos()))
	}
	other := map[string]gguf.Info{}
	for _, i := range b.Infos() {
		other[i.Name] = i
	}
	for _, i := range a.Infos() {
		e.Tensors++
		w := other[i.Name]
		if i.Type != w.Type || !i.Shape.Equal(w.Shape) {
			continue
		}
		x, _ := a.Section(i.Name)
		y, _ := b.Section(i.Name)
		bx, err := io.ReadAll(x)
		if err != nil {
			return e, err
		}
		by, err := io.ReadAll(y)
		if err != nil {
			return e, err
		}
		if bytes.Equal(bx, by) {
			e.Equal++
		}
	}
	return e, nil
}

// shape15 measures the memory of converting 1.5 billion weights.
func (o *ggufOptions) shape15(ctx context.Context, dir string, shop *workshop) (*ggufShapeReport, error) {
	src := filepath.Join(dir, "Qwen2.5-1.5B-shape")
	tokenizer, err := os.ReadFile(filepath.Join(shop.dir, "plain", "hf", "tokenizer.json"))
	if err != nil {
		return nil, fmt.Errorf("a tokenizer to put beside it: %w", err)
	}
	o.note("writing a checkpoint of Qwen2.5-1.5B's shape")
	spec, err := writeLarge(ctx, src, tokenizer, maps.Clone(qwen15B))
	if err != nil {
		return nil, err
	}
	r := &ggufShapeReport{Parameters: spec.Parameters()}
	r.Convert, err = runMeasured(ctx, os.Environ(), []string{o.program, "convert", "--quiet", "--threads", strconv.Itoa(o.threads),
		"--model", src, "--output", filepath.Join(dir, "shape"), "--formats", "gguf"})
	o.note("%.2f G weights: %.1f s, %.0f MB", float64(r.Parameters)/1e9, r.Convert.Seconds, float64(r.Convert.PeakRSS)/1e6)
	return r, err
}

func (r *ggufReport) write(dir string) error {
	var b strings.Builder
	b.WriteString("# Conversion of SmolLM2-135M to GGUF Q4_K_M\n\n")
	fmt.Fprintf(&b, "Written by `go run ./internal/peers gguf`. From a Hugging Face folder of bfloat16, both sides with the same number of threads; medians of %d alternating rounds. Ours is the wall time of the whole program, with checksums of source and result and the result written out to disk; llama_model_quantize is the call alone, from the converter's BF16 file, without starting Python.\n\n", r.Rounds)
	b.WriteString("| conversion | seconds | peak MB |\n|---|---|---|\n")
	for _, c := range r.Runs {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, spread(c.Seconds, 2), spread(scaled(c.PeakRSS, 1e-6), 0))
	}
	b.WriteString("\n| ours | times as fast as | ratio | goal | |\n|---|---|---|---|---|\n")
	for _, c := range r.Claims {
		fmt.Fprintf(&b, "| %s | %s | %.2f [%.2f – %.2f] (%.0f %%) | %s | %s |\n", c.Ours, c.Peer, c.Ratio, c.Low, c.High, 100*c.Coverage, c.Goal, verdict(c.Met))
	}
	if len(r.Equal) > 0 {
		b.WriteString("\nTensors with the bytes of llama_model_quantize, on the BF16 file of llama.cpp's own converter:\n\n| type | equal | of |\n|---|---|---|\n")
	}
	for _, e := range r.Equal {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", e.Type, e.Equal, e.Tensors)
	}
	if s := r.Shape; s != nil {
		fmt.Fprintf(&b, "\nA generated checkpoint of Qwen2.5-1.5B's shape (%.2f G weights, bfloat16): %.1f s, peak %.0f MB (goal ≤ 300: %s).\n",
			float64(s.Parameters)/1e9, s.Convert.Seconds, float64(s.Convert.PeakRSS)/1e6, verdict(s.Convert.PeakRSS <= 300e6))
	}
	fmt.Fprintf(&b, "\n%s\n", r.Machine)
	if err := writeReport(dir, ggufFile, r, b.String()); err != nil {
		return err
	}
	return printTable(dir, ggufFile)
}
