package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// The formats as metadata names them.
const (
	formatONNX = "onnx"
	formatGGUF = "gguf"
	formatMLX  = "mlx"
)

// cannotRun says why artifacts are left unmeasured; nothing is wrong with them.
type cannotRun struct{ why string }

func (e *cannotRun) Error() string { return e.why }

// sessionRuntime finds what runs a format: a library or a Python interpreter. It
// fetches nothing; a cannotRun says what would.
func (c *common) sessionRuntime(format string) (string, error) {
	switch format {
	case formatGGUF:
		if r := c.judgeLlama(); !r.OK {
			return "", &cannotRun{reason(r)}
		}
		found, err := c.locateLlama()
		return found.Path, err
	case formatMLX:
		if r := c.judgeMLX(); !r.OK {
			return "", &cannotRun{reason(r)}
		}
		return c.locateMLX()
	}
	return "", fmt.Errorf("nothing here runs format %q", format)
}

// sessionModel opens what a runtime needs to load an artifact.
func sessionModel(dir, format, runtime string) (m verify.SessionModel, err error) {
	switch format {
	case formatGGUF:
		file := dir
		if !strings.EqualFold(filepath.Ext(dir), ".gguf") {
			var ok bool
			if file, ok = firstGGUF(dir); !ok {
				return m, fmt.Errorf("%s holds no GGUF file, or several models", dir)
			}
		}
		if m.Folder, m.Tokenizer, err = llamacpp.OpenText(file); err != nil {
			return m, err
		}
		m.Folder.Dir = dir
		m.Backend, err = llamacpp.New(llamacpp.Options{Library: runtime})
	case formatMLX:
		if m.Folder, m.Tokenizer, err = mlxlm.OpenText(dir); err != nil {
			return m, err
		}
		m.Backend, err = mlxlm.New(mlxlm.Options{Python: runtime})
	default:
		err = fmt.Errorf("nothing here runs format %q", format)
	}
	return m, err
}

// verifySessionHere measures one artifact in this process.
func verifySessionHere(ctx context.Context, req verifyRequest, o verify.Options) ([]verify.Result, error) {
	if len(req.Artifacts) != 1 {
		return nil, fmt.Errorf("verify: %d artifacts of format %s at once, want 1", len(req.Artifacts), req.Format)
	}
	m, err := sessionModel(req.Artifacts[0], req.Format, req.Library)
	if err != nil {
		return nil, err
	}
	r, err := verify.RunSession(ctx, m, o)
	if fit := (*infer.FitError)(nil); errors.As(err, &fit) {
		return nil, &cannotRun{"there is too little free memory: " + fit.Error()}
	}
	return []verify.Result{r}, err
}

// sessionsOf lists the artifacts of a job that other runtimes than ONNX Runtime
// run, by format.
func sessionsOf(job *convert.Job) map[string][]int {
	out := map[string][]int{}
	for i, a := range job.Artifacts {
		if f := a.Metadata.Target.Format; f == formatGGUF || f == formatMLX {
			out[f] = append(out[f], i)
		}
	}
	return out
}

// canVerifySessions reports whether a job without ONNX artifacts can be verified:
// whether something runs one of its formats, and ONNX Runtime the reference.
func (c *common) canVerifySessions(o convert.Options) bool {
	if _, err := c.findORT(); err != nil {
		return false
	}
	for format, asked := range map[string]int{formatGGUF: len(o.GGUF.Types), formatMLX: len(o.MLX.Folders)} {
		if asked > 0 {
			if _, err := c.sessionRuntime(format); err == nil {
				return true
			}
		}
	}
	return false
}

// roomFor is an error where the disk of the output folder, which need not be
// there yet, has no room for the bytes of a job with its reference.
func roomFor(need int64, output string) error {
	dir, err := filepath.Abs(output)
	for err == nil {
		if _, missing := os.Stat(dir); missing == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return nil // the conversion will say it
	}
	u, err := disk.Usage(dir)
	if err == nil && int64(u.Free) < need {
		return fmt.Errorf("with it %s of disk are needed, %s are free", humanBytes(need), humanBytes(int64(u.Free)))
	}
	return nil
}

// noteUnverified says why artifacts have no figures.
func (c *common) noteUnverified(job *convert.Job, artifacts []int, why string) {
	if len(artifacts) == 0 {
		return
	}
	var names []string
	for _, i := range artifacts {
		names = append(names, job.Artifacts[i].Dir)
	}
	c.note("%s: not verified: %s", strings.Join(names, ", "), why)
}

// noteNoReference says of a job whose reference was not made why its artifacts
// of other formats than ONNX have no figures.
func (c *common) noteNoReference(job *convert.Job, refused error) {
	for _, format := range []string{formatGGUF, formatMLX} {
		why := "the ONNX Runtime library, which computes the reference, was not found; run " + c.setupCommand("cpu")
		if refused != nil {
			why = "the reference cannot be made: " + refused.Error()
		}
		if _, err := c.sessionRuntime(format); err != nil {
			why = err.Error()
		}
		c.noteUnverified(job, sessionsOf(job)[format], why)
	}
}

// verifySessions compares the artifacts that other runtimes run with the
// reference's logits, each in a process of its own. One that does not run is a
// problem and stays: the runtime may be at fault, and the files are as planned.
func (c *common) verifySessions(ctx context.Context, job *convert.Job, run func(verifyRequest) ([]verify.Result, error), logits string) (problems bool, err error) {
	all := sessionsOf(job)
	for _, format := range []string{formatGGUF, formatMLX} {
		if len(all[format]) == 0 {
			continue
		}
		runtime, err := c.sessionRuntime(format)
		if err != nil {
			c.noteUnverified(job, all[format], err.Error())
			continue
		}
		for _, i := range all[format] {
			a := job.Artifacts[i]
			results, err := run(verifyRequest{Library: runtime, Format: format, ReferenceLogits: logits, Artifacts: []string{job.Staged(i)}})
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			var cannot *cannotRun
			switch {
			case errors.As(err, &cannot):
				c.noteUnverified(job, []int{i}, shorten(err, job.Staged(i), a.Dir))
				continue
			case err != nil:
				problems = true
				fmt.Fprintf(c.Err, "%s: does not run: %s\n", a.Dir, shorten(err, job.Staged(i), a.Dir))
				continue
			}
			for _, p := range enterFidelity(a, results[0]) {
				problems = true
				fmt.Fprintf(c.Err, "%s: %s\n", a.Dir, p)
			}
		}
	}
	return problems, nil
}

// ranOn says in metadata where an artifact was run by its own runtime.
func ranOn(format, arithmetic string) string {
	if format == formatMLX && !strings.HasSuffix(arithmetic, "Metal") {
		return "run on the CPU; with Metal not run on the device"
	}
	_, device, _ := strings.Cut(arithmetic, " on ")
	return "yes: on the " + strings.TrimPrefix(device, "MLX ")
}

// runtimes finds what runs the artifacts of a folder, by format, and notes at
// each artifact of a format that nothing runs why.
func (c *common) runtimes(e *evidence) map[string]string {
	out := map[string]string{}
	for _, format := range []string{formatGGUF, formatMLX} {
		of := func(a *artifactEvidence) bool { return a.format() == format }
		if !slices.ContainsFunc(e.Artifacts, of) {
			continue
		}
		runtime, err := c.sessionRuntime(format)
		if err == nil {
			out[format] = runtime
			continue
		}
		for _, a := range e.Artifacts {
			if of(a) {
				a.NotRun = err.Error()
			}
		}
	}
	return out
}

// format is the artifact's, "onnx" where metadata does not tell.
func (a *artifactEvidence) format() string {
	if a.metadata == nil || a.metadata.Target.Format == "" {
		return formatONNX
	}
	return a.metadata.Target.Format
}
