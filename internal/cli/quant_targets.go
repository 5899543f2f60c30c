package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// targetFlags say for which execution providers, and in which graph forms.
type targetFlags struct {
	targets    []string
	precisions []string
	// The same by the names that scripts written for more formats use.
	onnxTargets    []string
	onnxPrecisions []string
	hints          string
}

func (t *targetFlags) bind(f *pflag.FlagSet) {
	f.StringSliceVar(&t.targets, "target-eps", nil, "execution providers to write for, ignoring case: "+strings.Join(target.Known(), ", ")+";\nNAME@RELEASE may use what a newer release of its library knows, as in tensorrt@10.15")
	f.StringSliceVar(&t.precisions, "target-precisions", []string{"int8", "int4"}, "built-in recipes to write for each: int8, int4; some have more (see docs/quantization.md)")
	f.StringSliceVar(&t.onnxTargets, "onnx-target-eps", nil, "another spelling of --target-eps")
	f.StringSliceVar(&t.onnxPrecisions, "onnx-precisions", nil, "another spelling of --target-precisions")
	f.StringVar(&t.hints, "optimization-hints", "", "what graphs shall be like, as JSON or @FILE: "+strings.Join(hintNames(), ", "))
}

// hintNames are the keys of --optimization-hints.
func hintNames() []string {
	var names []string
	for _, k := range target.HintKeys() {
		name, _, _ := strings.Cut(k, ":")
		names = append(names, name)
	}
	return names
}

// settle joins the two spellings, which must not contradict each other.
func (t *targetFlags) settle(cmd *cobra.Command) error {
	for _, f := range []struct {
		name, other string
		v           *[]string
		second      []string
	}{
		{"target-eps", "onnx-target-eps", &t.targets, t.onnxTargets},
		{"target-precisions", "onnx-precisions", &t.precisions, t.onnxPrecisions},
	} {
		switch {
		case !cmd.Flags().Changed(f.other):
		case cmd.Flags().Changed(f.name) && !sameNames(*f.v, f.second):
			return usagef(cmd, "--%s %s and --%s %s say different things", f.name, strings.Join(*f.v, ","), f.other, strings.Join(f.second, ","))
		default:
			*f.v = f.second
		}
	}
	return nil
}

func sameNames(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool { return strings.EqualFold(strings.TrimSpace(x), strings.TrimSpace(y)) })
}

// parsed reads the hints.
func (t *targetFlags) parsed(cmd *cobra.Command) (target.Hints, error) {
	text := []byte(t.hints)
	if name, ok := strings.CutPrefix(t.hints, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return target.Hints{}, fmt.Errorf("read the optimization hints: %w", err)
		}
		text = b
	}
	h, err := target.ParseHints(text)
	if err != nil {
		return h, usagef(cmd, "--optimization-hints: %w", err)
	}
	return h, nil
}

// errTargets is what convert ends with when some of the artifacts asked for
// could not be made.
var errTargets = errors.New("not all artifacts could be made; the others were written, see above")

// printFailures lists the artifacts that could not be made, with the reasons.
func printFailures(w io.Writer, job *convert.Job) error {
	for _, f := range job.Failures() {
		if _, err := fmt.Fprintf(w, "%s  FAILED: %v\n", f.Dir, f.Err); err != nil {
			return err
		}
	}
	return nil
}

// failures is nil where everything asked for was made.
func failures(job *convert.Job) error {
	if len(job.Failures()) == 0 {
		return nil
	}
	return errTargets
}
