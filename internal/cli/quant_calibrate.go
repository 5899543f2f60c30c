package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// calibration is what the user says of it.
type calibration struct {
	from   string // auto, probe, a text file, or a statistics file
	tokens int
	seed   uint64
}

const (
	calibrationAuto  = "auto"
	calibrationProbe = "probe"
)

func (o *calibration) bind(f *pflag.FlagSet) {
	f.StringVar(&o.from, "calibration", calibrationAuto, "what shows which channels matter: auto (what each recipe asks for: built-in text, through ONNX Runtime,\nor a probe), probe (random token ids, takes a second), self (text the model writes), a text file, or a statistics file of 'calibrate'")
	f.IntVar(&o.tokens, "calibration-tokens", 4096, "tokens of the text that are used")
	f.Uint64Var(&o.seed, "seed", 1, "draws which parts of a long calibration text are used")
}

// bindText binds the flags of the commands whose work is the text.
func (o *calibration) bindText(f *pflag.FlagSet) {
	f.StringVar(&o.from, "text", calibrationAuto, "auto (built-in text), self (text the model writes) or a text file")
	f.IntVar(&o.tokens, "tokens", 4096, "tokens of the text that are used")
	f.Uint64Var(&o.seed, "seed", 1, "draws which parts of a long text are used")
}

// statistics reports whether the calibration is a file of what a text gave.
func (o calibration) statistics() bool { return strings.HasSuffix(o.from, ".safetensors") }

func (o calibration) check(cmd *cobra.Command) error {
	if o.tokens < 16 {
		return usagef(cmd, "calibration tokens %d: want 16 or more", o.tokens)
	}
	return nil
}

// calibrateCommand gathers statistics on their own.
func calibrateCommand(c *common) *cobra.Command {
	var o calibration
	var model, lora, output string
	cmd := command("calibrate", "Learn which channels of a checkpoint's activations matter",
		`Runs a text through the checkpoint's float32 model, a layer at a time, and
writes a statistics file: for each input of each layer the mean square and the
largest magnitude of every channel. convert does the same by itself; a file
serves several conversions, or a text of your own:

  llama-pajamas-quant calibrate --model M --text my.txt --output stats.safetensors
  llama-pajamas-quant convert --model M --calibration stats.safetensors …

An interrupted run goes on where it was.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			if model == "" || output == "" {
				return usagef(cmd, "--model and --output are required")
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			_, stats, err := c.statsOf(cmd, model, lora, o)
			if err != nil {
				return err
			}
			if err := stats.Save(output, nil); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "%s: %s\n", output, stats.Source)
			return nil
		})
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "checkpoint, as for convert (required)")
	f.StringVar(&lora, "lora", "", loraHelp)
	f.StringVar(&output, "output", "", "statistics file to write (required)")
	o.bindText(f)
	return cmd
}

// statsOf opens a checkpoint and runs a text through it, for the commands that
// do nothing else.
func (c *common) statsOf(cmd *cobra.Command, model, lora string, o calibration) (*arch.Spec, *calibrate.Stats, error) {
	log, err := c.logger(cmd)
	if err != nil {
		return nil, nil, err
	}
	ck, err := c.openCheckpoint(cmd.Context(), log, model, lora)
	if err != nil {
		return nil, nil, err
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return nil, nil, err
	}
	stats, err := c.textStats(cmd.Context(), ck, spec, o)
	return spec, stats, err
}

// stats gives a conversion its statistics, nil for those of the probe.
func (c *common) stats(ctx context.Context, ck *checkpoint.Checkpoint, spec *arch.Spec, o calibration, needText bool) (*calibrate.Stats, error) {
	if o.from == calibrationProbe {
		if needText {
			c.note("calibrated with random token ids: ranges of activations are a guess, a text would show them")
		}
		return nil, nil
	}
	if o.statistics() {
		stats, _, err := calibrate.Load(o.from, spec)
		return stats, err
	}
	if _, err := c.findORT(); err != nil && o.from == calibrationAuto {
		if needText {
			return nil, fmt.Errorf("calibrate with text: %w", err)
		}
		c.note("calibrated with random token ids: %v", err)
		return nil, nil
	}
	return c.textStats(ctx, ck, spec, o)
}

// textStats runs a text through the model, unless the cache holds what the
// same text gave for the same files.
func (c *common) textStats(ctx context.Context, ck *checkpoint.Checkpoint, spec *arch.Spec, o calibration) (*calibrate.Stats, error) {
	library, err := c.findORT()
	if err != nil {
		return nil, err
	}
	text, name, err := o.text()
	if err != nil {
		return nil, err
	}
	key, dir, err := c.calibrationPlace(ck, text, o)
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(dir, key+".safetensors")
	if stats, _, err := calibrate.Load(kept, spec); err == nil {
		if c.calibrated != key {
			c.note("calibration: as kept from before (%s)", stats.Source)
			c.calibrated = key
		}
		return stats, nil
	}
	c.calibrated = key
	var windows [][]int32
	if o.from == calibrationSelf {
		windows, err = c.selfWindows(ctx, library, ck, o)
	} else {
		windows, err = o.windows(ck, text, o.tokens)
	}
	if err != nil {
		return nil, err
	}
	n := len(windows) * len(windows[0])
	if n < o.tokens*3/4 {
		c.note("calibration: the text gives %d of %d tokens", n, o.tokens)
	}
	req := calibrateRequest{
		Library: library, Model: ck.Path(), LoRA: ck.Adapter(), Threads: c.Threads, Windows: windows,
		Source: fmt.Sprintf("%d tokens of %s", n, name), Output: kept,
		State: filepath.Join(dir, key+".state"), Key: key,
	}
	bar := c.newProgress("calibrating", int64(spec.Layers+1))
	err = c.runCalibrate(ctx, req, func(done int) { bar.set(int64(done), 0) })
	bar.stop()
	if err != nil {
		return nil, err
	}
	stats, _, err := calibrate.Load(kept, spec)
	return stats, err
}

// text is the text to calibrate with, and its name for metadata.
func (o calibration) text() (text, name string, err error) {
	switch o.from {
	case calibrationAuto:
		return layerwise.Text, layerwise.TextName, nil
	case calibrationSelf:
		return calibrationSelf, "text the model wrote itself", nil
	}
	b, err := os.ReadFile(o.from)
	if err != nil {
		return "", "", fmt.Errorf("read the calibration text: %w", err)
	}
	sum := sha256.Sum256(b)
	return strings.ToValidUTF8(string(b), ""), fmt.Sprintf("%s (sha256 %s)", filepath.Base(o.from), hex.EncodeToString(sum[:8])), nil
}

// windows cuts a text into the windows of ids that a checkpoint reads.
func (o calibration) windows(ck *checkpoint.Checkpoint, text string, tokens int) ([][]int32, error) {
	ids, prefix, err := calibrationIDs(ck, text)
	if err != nil {
		return nil, err
	}
	return layerwise.Cut(ids, prefix, min(tokens, len(ids)+len(prefix)), o.seed)
}

// calibrationPlace is the key of a calibration and the cache's folder for what
// it gives.
func (c *common) calibrationPlace(ck *checkpoint.Checkpoint, text string, o calibration) (key, dir string, err error) {
	if key, err = calibrationKey(ck, text, o); err != nil {
		return "", "", err
	}
	cache, err := c.CacheDir()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(cache, "calibration")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("make the folder of calibrations: %w", err)
	}
	return key, dir, nil
}

// calibrationKey names a calibration by all that its figures depend on.
func calibrationKey(ck *checkpoint.Checkpoint, text string, o calibration) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%d\n%d\n%d\n%x\n", Version, ck.ID(), o.tokens, o.seed, layerwise.Window, sha256.Sum256([]byte(text)))
	h.Write(ck.Config())
	for _, f := range ck.SourceFiles() {
		st, err := os.Stat(f.Path)
		if err != nil {
			return "", fmt.Errorf("calibrate: %w", err)
		}
		abs, err := filepath.Abs(f.Path)
		if err != nil {
			return "", fmt.Errorf("calibrate: %w", err)
		}
		fmt.Fprintf(h, "%s %d %d\n", abs, f.Bytes, st.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// calibrationIDs tokenizes a text as the checkpoint does, and gives the ids
// that a text of its begins with.
func calibrationIDs(ck *checkpoint.Checkpoint, text string) (ids, prefix []int32, err error) {
	f, ok := ck.SupportFile("tokenizer.json")
	if !ok {
		return nil, nil, fmt.Errorf("%s has no tokenizer: calibrate with --calibration probe", ck.ID())
	}
	b, err := f.Data()
	if err != nil {
		return nil, nil, err
	}
	tok, err := tokenizer.Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("read the tokenizer of %s: %w", ck.ID(), err)
	}
	ids = tok.Encode(text, tokenizer.EncodeOptions{})
	// What special tokens add in front of an ordinary one.
	plain, special := tok.Encode("a", tokenizer.EncodeOptions{}), tok.Encode("a", tokenizer.EncodeOptions{AddSpecial: true})
	for i := range special {
		if len(special)-i >= len(plain) && len(plain) > 0 && special[i] == plain[0] {
			return ids, special[:i], nil
		}
	}
	return ids, nil, nil
}

// calibrateRequest goes to the child process as JSON on standard input.
type calibrateRequest struct {
	Library string    `json:"library"`
	Model   string    `json:"model"`
	LoRA    string    `json:"lora,omitempty"`
	Threads int       `json:"threads"`
	Windows [][]int32 `json:"windows"`
	Source  string    `json:"source"`
	Output  string    `json:"output"`
	State   string    `json:"state"`
	Key     string    `json:"key"`
}

// calibrateLine is one line of the child's standard output.
type calibrateLine struct {
	Done   int             `json:"done,omitempty"`
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// calibrateChild names the hidden command that runs in the child process.
const calibrateChild = "calibrate-layers"

// runCalibrate runs the layers in a child process, or in this one where there
// is no program to start (tests).
func (c *common) runCalibrate(ctx context.Context, req calibrateRequest, progress func(done int)) error {
	if c.Program == "" {
		return calibrateHere(ctx, req, progress)
	}
	return c.layerwise(ctx, calibrateChild, req, progress, nil)
}

// layerwise runs a hidden command that goes through the layers of a model in a
// child process. result, which may be nil, receives its last line's result.
func (c *common) layerwise(ctx context.Context, command string, request any, progress func(done int), result any) error {
	var last calibrateLine
	err := c.child(ctx, command, request, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			last = calibrateLine{}
			if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
				return fmt.Errorf("read the calibrating process's answer: %w", err)
			}
			progress(last.Done)
		}
		return lines.Err()
	})
	switch {
	case last.Error != "":
		return errors.New(last.Error)
	case err != nil:
		return fmt.Errorf("calibrate: %w", err)
	case result != nil:
		return json.Unmarshal(last.Result, result)
	}
	return nil
}

func calibrateHere(ctx context.Context, req calibrateRequest, progress func(done int)) error {
	return withModel(ctx, req.Library, req.Model, req.LoRA, len(req.Windows[0]), req.Threads, func(m *layerwise.Model, ck *checkpoint.Checkpoint) error {
		stats, err := layerwise.Observe(ctx, m, ck.Tensor, layerwise.Options{
			Windows: req.Windows, Source: req.Source, StateFile: req.State, Key: req.Key,
			Progress: func(done, _ int) { progress(done) },
		})
		if err != nil {
			return err
		}
		return stats.Save(req.Output, nil)
	})
}

// withModel opens a checkpoint and its float model for the time of f.
func withModel(ctx context.Context, library, model, lora string, window, threads int, f func(*layerwise.Model, *checkpoint.Checkpoint) error) error {
	ck, err := checkpoint.Open(ctx, model, checkpoint.Options{LoRA: lora})
	if err != nil {
		return err
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return err
	}
	lib, err := ort.Open(library)
	if err != nil {
		return err
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: "calibrate"})
	if err != nil {
		return err
	}
	defer env.Close()
	m, err := layerwise.New(env, spec, window, threads)
	if err != nil {
		return err
	}
	return f(m, ck)
}

// calibrateChildCommand is the child's side.
func calibrateChildCommand(c *common) *cobra.Command {
	cmd := command(calibrateChild, "", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req calibrateRequest
		if err := json.NewDecoder(io.LimitReader(c.In, 64<<20)).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if len(req.Windows) == 0 {
			return errors.New("no windows to run")
		}
		out := json.NewEncoder(c.Out)
		if err := calibrateHere(cmd.Context(), req, func(done int) { _ = out.Encode(calibrateLine{Done: done}) }); err != nil {
			return out.Encode(calibrateLine{Error: err.Error()})
		}
		return nil
	})
	cmd.Hidden = true
	return cmd
}
