package autoselect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// Runtime is what computes, and in which format.
type Runtime string

// The runtimes, best first.
const (
	TensorRT Runtime = "tensorrt" // ONNX
	CUDA     Runtime = "cuda"     // ONNX
	MLX      Runtime = "mlx"
	CoreML   Runtime = "coreml" // ONNX
	LlamaCpp Runtime = "llama.cpp"
	CPU      Runtime = "cpu" // ONNX
)

// runtimes are all, in order of preference.
var runtimes = []Runtime{TensorRT, CUDA, MLX, CoreML, LlamaCpp, CPU}

// Runtimes lists all, best first.
func Runtimes() []Runtime { return slices.Clone(runtimes) }

// Format is the format a runtime reads: "onnx", "gguf" or "mlx".
func (r Runtime) Format() string {
	switch r {
	case MLX:
		return "mlx"
	case LlamaCpp:
		return "gguf"
	}
	return "onnx"
}

// String names the runtime with its format, as in "ONNX (TensorRT)".
func (r Runtime) String() string {
	switch r {
	case TensorRT:
		return "ONNX (TensorRT)"
	case CUDA:
		return "ONNX (CUDA)"
	case MLX:
		return "MLX"
	case CoreML:
		return "ONNX (CoreML)"
	case LlamaCpp:
		return "GGUF (llama.cpp)"
	case CPU:
		return "ONNX (CPU)"
	}
	return string(r)
}

// targets are the folders below onnx/ that a runtime takes, best first. "base"
// runs everywhere.
func (r Runtime) targets() []string {
	switch r {
	case TensorRT:
		return []string{"tensorrt", "base"}
	case CUDA:
		return []string{"cuda", "base"}
	case CoreML:
		return []string{"coreml", "base"}
	case CPU:
		return []string{"cpu", "base"}
	case MLX:
		return []string{"mlx-lm"}
	}
	return []string{"llama.cpp"}
}

// Force are the user's own choices; "" leaves one open.
type Force struct {
	Format  string
	Runtime Runtime
	Recipe  string
	// Target picks among ONNX folders.
	Target string
}

// any reports a choice of the user's.
func (f Force) any() bool { return f != Force{} }

// Choice is a way to run the model.
type Choice struct {
	Runtime  Runtime           `json:"runtime"`
	Artifact modeldir.Artifact `json:"artifact"`
	// Why says what speaks for the artifact.
	Why string `json:"why"`
	// Rate is an upper bound of tokens per second, from the memory's bandwidth;
	// 0 where that is not known.
	Rate float64 `json:"rate_bound,omitempty"`
}

// String is "ONNX (CPU), recipe int4".
func (c Choice) String() string {
	s := c.Runtime.String()
	if c.Artifact.Recipe != "" {
		s += ", recipe " + c.Artifact.Recipe
	}
	return s
}

// LeftOut says why a runtime is not in a plan.
type LeftOut struct {
	Runtime Runtime `json:"runtime"`
	Why     string  `json:"why"`
}

// Plan is the outcome of [Rank].
type Plan struct {
	Choices []Choice  `json:"choices"` // best first
	LeftOut []LeftOut `json:"left_out"`
	// Trial says that the first choices are for CPU alone and should be tried
	// against each other: so many of them.
	Trial int `json:"trial,omitempty"`
	// Forced says that the user made the choice: failing is final then.
	Forced bool `json:"forced"`
}

// WantedRate is the tokens per second a choice of recipe aims at.
const WantedRate = 10

// What a guess takes where it is not known: the bandwidth of two channels of
// DDR4, and the shares of memory that a model may fill.
const (
	guessedBandwidth = 25e9
	hostShare        = 0.8 // of what is free
	gpuShare         = 0.85
	// tensorRTCompute is the least compute capability of TensorRT 10 and of the
	// CUDA 13 builds: 7.5 (NVIDIA's support matrix).
	tensorRTCompute = 7.5
)

// Rank lists what can run one of the artifacts on the machine, best first. It is
// never an error: a plan without choices says why of every runtime.
func Rank(m Machine, artifacts []modeldir.Artifact, f Force) Plan {
	p := Plan{Forced: f.any()}
	for _, r := range runtimes {
		c, why := consider(&m, artifacts, f, r)
		if why != "" {
			p.LeftOut = append(p.LeftOut, LeftOut{Runtime: r, Why: why})
			continue
		}
		p.Choices = append(p.Choices, c)
	}
	if !p.Forced && m.cpuOnly() && len(p.Choices) > 1 {
		p.Trial = len(p.Choices)
	}
	return p
}

// consider is the choice for one runtime, or why there is none.
func consider(m *Machine, artifacts []modeldir.Artifact, f Force, r Runtime) (Choice, string) {
	switch {
	case f.Runtime != "" && f.Runtime != r:
		return Choice{}, fmt.Sprintf("--backend %s was asked for", string(f.Runtime))
	case f.Format != "" && f.Format != r.Format():
		return Choice{}, fmt.Sprintf("--format %s was asked for", f.Format)
	}
	if r == MLX && !slices.ContainsFunc(artifacts, func(a modeldir.Artifact) bool { return a.Format != MLX.Format() }) {
		f.Format = MLX.Format() // there is nothing else
	}
	if why := suits(m, r, f); why != "" {
		return Choice{}, why
	}
	if why := m.Missing[r]; why != "" {
		return Choice{}, why
	}
	candidates, why := candidates(artifacts, f, r)
	if why != "" {
		return Choice{}, why
	}
	return pick(m, r, candidates, f.Recipe != "")
}

// suits says why the machine's hardware is not for a runtime. A runtime asked for
// by name need only be able to run.
func suits(m *Machine, r Runtime, f Force) string {
	switch r {
	case TensorRT, CUDA:
		if !m.hasNVIDIA() {
			return "there is no NVIDIA card"
		}
		if m.Jetson == "" {
			if c, known := bestCompute(m); known && c < tensorRTCompute {
				return fmt.Sprintf("the card's compute capability is %.1f, below 7.5", c)
			}
		}
	case CoreML:
		if m.OS != "darwin" {
			return "CoreML is a part of macOS"
		}
		if !m.Apple {
			return "this is an Intel Mac; CoreML's accelerators are Apple silicon's"
		}
	case MLX:
		if m.Apple {
			return ""
		}
		if f.Runtime == MLX || f.Format == "mlx" {
			return "" // on a CPU it is slow, but it runs
		}
		return "there is no Apple silicon"
	case CPU:
		if m.OS == "darwin" && m.Arch == "amd64" {
			return "ONNX Runtime is not published for Intel Macs"
		}
	}
	return ""
}

// bestCompute is the highest compute capability of the cards, if any tells it.
func bestCompute(m *Machine) (best float64, known bool) {
	for _, g := range m.NVIDIA {
		if c, err := strconv.ParseFloat(g.Compute, 64); err == nil {
			best, known = max(best, c), true
		}
	}
	return best, known
}

// candidates are the artifacts a runtime could take: those of its own target
// where there are any.
func candidates(artifacts []modeldir.Artifact, f Force, r Runtime) ([]modeldir.Artifact, string) {
	var of []modeldir.Artifact
	var have []string
	any := false
	for _, target := range r.targets() {
		if f.Target != "" && r.Format() == "onnx" && f.Target != target {
			continue
		}
		for _, a := range artifacts {
			if a.Format != r.Format() || a.Target != target {
				continue
			}
			any = true
			have = append(have, a.Recipe)
			if f.Recipe == "" || strings.EqualFold(f.Recipe, a.Recipe) {
				of = append(of, a)
			}
		}
		if len(of) > 0 {
			return of, ""
		}
	}
	if any {
		return nil, fmt.Sprintf("it has no recipe %s; there are %s", f.Recipe, strings.Join(have, ", "))
	}
	return nil, "the model has no artifact for it (" + strings.Join(r.targets(), ", ") + ")"
}

// pick takes the most exact artifact that fits and is fast enough, else the
// smallest that fits.
func pick(m *Machine, r Runtime, list []modeldir.Artifact, named bool) (Choice, string) {
	room, where := roomFor(m, r)
	list = slices.Clone(list)
	if packed := slices.DeleteFunc(slices.Clone(list), isFloat); len(packed) > 0 && !named {
		list = packed // floats cost twice the time of 8 bits, and tell no better
	}
	slices.SortStableFunc(list, func(a, b modeldir.Artifact) int { return int(max(-1, min(1, b.Bytes-a.Bytes))) })
	smallest := list[len(list)-1]
	var fits []modeldir.Artifact
	for _, a := range list {
		if room == 0 || a.Bytes <= room {
			fits = append(fits, a)
		}
	}
	choice := func(a modeldir.Artifact, why string) (Choice, string) {
		c := Choice{Runtime: r, Artifact: a, Why: why}
		if rate := rateOf(m, r, a.Bytes); m.Bandwidth > 0 && rate > 0 && a.Bytes > 0 {
			c.Rate = rate / float64(a.Bytes)
		}
		return c, ""
	}
	switch {
	case len(fits) == 0:
		return Choice{}, fmt.Sprintf("its smallest artifact (%s, %.2g GB) does not fit %s of %.2g GB", smallest.Recipe, float64(smallest.Bytes)/1e9, where, float64(room)/1e9)
	case named:
		return choice(fits[0], "asked for")
	case len(fits) == 1:
		return choice(fits[0], "the only artifact that fits")
	}
	for _, a := range fits {
		if rate := rateOf(m, r, a.Bytes); rate == 0 || rate/float64(max(a.Bytes, 1)) >= WantedRate {
			return choice(a, "the most exact that fits and is fast enough")
		}
	}
	return choice(fits[len(fits)-1], "the smallest: none is expected to be fast")
}

// isFloat reports weights that are not quantized.
func isFloat(a modeldir.Artifact) bool {
	switch strings.ToLower(a.Recipe) {
	case "fp16", "fp32", "f16", "f32", "bf16", "16bit", "32bit":
		return true
	}
	return false
}

// roomFor is the memory a model may take with a runtime; 0 where it is not
// known.
func roomFor(m *Machine, r Runtime) (bytes int64, where string) {
	if (r == TensorRT || r == CUDA) && m.Jetson == "" {
		var most uint64
		for _, g := range m.NVIDIA {
			most = max(most, g.TotalMemory)
		}
		return int64(float64(most) * gpuShare), "the card's usable memory"
	}
	free := m.Free
	if free == 0 {
		free = m.Memory
	}
	return int64(float64(free) * hostShare), "the usable memory"
}

// rateOf is the bytes per second a runtime reads weights of that size with, at
// best; 0 for cards that hold them, whose bandwidth is not measured and always
// enough.
func rateOf(m *Machine, r Runtime, bytes int64) float64 {
	if len(m.NVIDIA) > 0 && m.Jetson == "" {
		if card, _ := roomFor(m, CUDA); r == TensorRT || r == CUDA || r == LlamaCpp && bytes <= card {
			return 0
		}
	}
	if m.Bandwidth > 0 {
		return m.Bandwidth
	}
	return guessedBandwidth
}
