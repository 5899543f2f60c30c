package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/target"
)

type selftestOptions struct {
	modelFlags
	json, record, noRatio  bool
	prompt, decode, rounds int
	computePlan            string
}

func selftestCommand(c *common) *cobra.Command {
	var o selftestOptions
	cmd := command("selftest", "Run a model on this device and report what was found",
		`Loads a model with the backend asked for and reports, to be pasted into an issue:
machine and library; which provider runs how many nodes; logits against stored
ones (selftest.json in the model folder) or else against the plain arithmetic of
the same file on the CPU; whether prompts and single tokens agree; tokens per
second beside the ceiling that memory bandwidth sets; int4 beside int8 where both
folders lie side by side; memory; every backend passed over, with the reason.

Exit code 1 if the model does not run or its logits are wrong.

On a Mac the compute unit of each operation comes from CoreML's own log:
  selftest … --ep-option ProfileComputePlan=1 2> plan.txt
  selftest … --compute-plan plan.txt`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runSelftest(cmd.Context(), c, cmd, o) })
	o.modelFlags.bind(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.record, "record", false, "write the CPU's logits to selftest.json in the model folder, to be compared with elsewhere")
	f.BoolVar(&o.noRatio, "no-ratio", false, "do not measure int4 beside int8")
	f.IntVar(&o.prompt, "prompt-tokens", 128, "length of the prompt that is timed")
	f.IntVar(&o.decode, "decode-tokens", 32, "tokens decoded in a timed round")
	f.IntVar(&o.rounds, "rounds", 3, "timed rounds; medians are told")
	f.StringVar(&o.computePlan, "compute-plan", "", "file with CoreML's log of a run with ProfileComputePlan=1")
	return cmd
}

// selftest is what selftest --json prints. Sizes are in bytes, times in
// seconds, 0 where unknown.
type selftest struct {
	Version      string                  `json:"version"`
	OS           string                  `json:"os"`
	Arch         string                  `json:"arch"`
	CPU          cpuReport               `json:"cpu"`
	Memory       memoryReport            `json:"memory"`
	Accelerators []accelerator           `json:"accelerators"`
	Library      libraryReport           `json:"onnxruntime"`
	Build        string                  `json:"onnxruntime_build"`
	Model        selftestModel           `json:"model"`
	Asked        string                  `json:"backend_asked"`
	Provider     string                  `json:"provider"`
	Profile      string                  `json:"profile,omitempty"`
	Options      map[string]string       `json:"provider_options,omitempty"`
	Fallbacks    []onnxruntime.Fallback  `json:"fallbacks"`
	Load         float64                 `json:"load_seconds"`
	Nodes        []onnxruntime.NodeCount `json:"nodes"`
	ComputePlan  []unitCount             `json:"compute_plan,omitempty"`
	Logits       selftestLogits          `json:"logits"`
	Speed        selftestSpeed           `json:"speed"`
	Ratio        *selftestRatio          `json:"int4_over_int8,omitempty"`
	Peak         int64                   `json:"peak_memory_bytes"`
	Warnings     []string                `json:"warnings"`
}

type selftestModel struct {
	Path        string  `json:"path"`
	Name        string  `json:"name,omitempty"`
	Target      string  `json:"target,omitempty"`
	Recipe      string  `json:"recipe,omitempty"`
	Writer      string  `json:"writer,omitempty"`
	RanOnDevice string  `json:"ran_on_device,omitempty"`
	Parameters  int64   `json:"parameters,omitempty"`
	WeightBytes int64   `json:"weight_bytes"`
	Bits        float64 `json:"bits_per_weight,omitempty"`
	Context     int     `json:"context"`
}

func runSelftest(ctx context.Context, c *common, cmd *cobra.Command, o selftestOptions) error {
	if o.prompt < 1 || o.decode < 1 || o.rounds < 1 {
		return usagef(cmd, "--prompt-tokens, --decode-tokens and --rounds must be 1 or more")
	}
	r := &selftest{Version: Version, OS: runtime.GOOS, Arch: runtime.GOARCH, Warnings: []string{}, Fallbacks: []onnxruntime.Fallback{}}
	if o.computePlan != "" {
		var err error
		if r.ComputePlan, err = readComputePlan(o.computePlan); err != nil {
			return err
		}
	}
	l, err := o.openWith(ctx, c, cmd, infer.OpenOptions{}, func(b *onnxruntime.Options) { b.Record = true })
	if err != nil {
		return err
	}
	defer l.close() // nothing is written: there is nothing to lose
	r.describe(ctx, c, l)
	if r.Nodes, err = onnxruntime.NodeCounts(l.session); err != nil {
		r.warn("which provider runs each node is not known: %v", err)
	}
	r.judgeNodes()
	steps := []func() error{
		func() error { return r.time(ctx, l, o) }, // first: the rest takes memory of its own
		func() error { return r.compare(ctx, c, cmd, l, o) },
		func() error { return r.ratio(ctx, c, cmd, l, o) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if o.json {
		err = printJSON(c.Out, r)
	} else {
		err = r.print(c.Out, c.Color(c.OutTerminal))
	}
	if err == nil && !r.Logits.OK {
		err = errors.New("the logits are wrong, see the report")
	}
	return err
}

func (r *selftest) warn(format string, a ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, a...))
}

// describe fills in machine, library, model and backend.
func (r *selftest) describe(ctx context.Context, c *common, l *loaded) {
	d := c.diagnose(ctx)
	lib := l.backend.Library()
	r.CPU, r.Memory, r.Accelerators = d.CPU, d.Memory, d.Accelerators
	providers, err := lib.AvailableProviders()
	r.Library = libraryReport{Path: lib.Path(), Version: lib.Version(), Providers: providers, err: err}
	r.Build = lib.BuildInfo()
	info := l.session.Info()
	r.Model = selftestModel{Path: info.Model, WeightBytes: info.WeightBytes, Context: info.MaxContext}
	if m := l.folder.Metadata; m != nil {
		r.Model.Name, r.Model.Target, r.Model.Recipe = m.Architecture.Name, m.Target.Target, m.Target.Recipe
		r.Model.Writer, r.Model.RanOnDevice = strings.TrimSpace(m.Tool.Name+" "+m.Tool.Version), m.Target.RanOnDevice
		r.Model.Parameters, r.Model.Bits = m.Architecture.Parameters, m.Size.BitsPerWeight
	}
	r.Asked, r.Provider, r.Options = l.choice.name, info.Provider, l.choice.options
	r.Fallbacks = append(r.Fallbacks, l.passed...)
	r.Load = l.load.Seconds()
	if l.choice.profile != nil {
		r.Profile = l.choice.profile.Name
	}
}

// judgeNodes warns of nodes that the provider left to another.
func (r *selftest) judgeNodes() {
	for _, graph := range []string{"decode", "prefill"} {
		all, others := 0, 0
		for _, n := range r.Nodes {
			if n.Graph == graph {
				all += n.Nodes
				if n.Provider != r.Provider {
					others += n.Nodes
				}
			}
		}
		if others > 0 {
			r.warn("%d of %d nodes of the %s graph do not run on %s", others, all, graph, r.Provider)
		}
	}
}

// selftestLogits compares logits with a reference over its likeliest tokens.
type selftestLogits struct {
	OK        bool    `json:"ok"`
	Reference string  `json:"reference"`
	Cases     int     `json:"cases"`
	SameTop   int     `json:"same_top_token"`
	MaxDelta  float64 `json:"max_abs_delta"`
	MaxLogit  float64 `json:"max_abs_logit"`
	// PrefillDelta is the largest difference between a prompt evaluated at once
	// and the same one with its last token decoded.
	PrefillDelta float64 `json:"prefill_decode_delta"`
}

// topTokens is how many logits of a case are stored.
const topTokens = 20

// tie is how far apart two logits may be, of the largest magnitude, for which
// of them is the largest to be a matter of rounding: 8-bit activations on the
// CPU differ by some 2 %.
const tie = 0.05

// compare runs the cases of selftest.json, or of the CPU's plain arithmetic.
func (r *selftest) compare(ctx context.Context, c *common, cmd *cobra.Command, l *loaded, o selftestOptions) error {
	ref, err := l.folder.ReadSelfTest()
	if err != nil {
		return err
	}
	if ref == nil || o.record {
		if ref, err = o.reference(ctx, c, cmd, l); err != nil {
			return fmt.Errorf("compute reference logits on the CPU: %w", err)
		}
	}
	if o.record {
		if err := ref.Write(l.folder.Dir); err != nil {
			return err
		}
	}
	g := &r.Logits
	g.OK, g.Reference = true, ref.Reference
	for i, cs := range ref.Cases {
		if len(cs.Tokens) > l.session.Info().MaxContext {
			r.warn("reference %d has %d tokens, more than the context", i, len(cs.Tokens))
			continue
		}
		if err := r.compareCase(ctx, l.session, i, cs); err != nil {
			return fmt.Errorf("reference %d: %w", i, err)
		}
	}
	if g.Cases == 0 {
		g.OK = false
		r.warn("no reference logits could be compared")
	}
	if g.PrefillDelta > 2*tie*g.MaxLogit { // both sides may be off
		g.OK = false
		r.warn("a prompt at once and its last token alone give logits %.3g apart", g.PrefillDelta)
	}
	return nil
}

func (r *selftest) compareCase(ctx context.Context, s infer.Session, i int, cs modeldir.SelfTestCase) error {
	g := &r.Logits
	row, err := fresh(ctx, s, cs.Tokens)
	if err != nil {
		return err
	}
	best := int32(0)
	for id, v := range row {
		if v != v || math.IsInf(float64(v), 0) {
			g.OK = false
			r.warn("reference %d: the logit of token %d is %v", i, id, v)
			return nil
		}
		if v > row[best] {
			best = int32(id)
		}
	}
	g.Cases++
	top := cs.Top[0]
	largest := 0.0
	for _, t := range cs.Top {
		if int(t.ID) >= len(row) {
			return fmt.Errorf("token %d is beyond the model's %d", t.ID, len(row))
		}
		largest = max(largest, math.Abs(float64(t.Logit)))
		g.MaxDelta = max(g.MaxDelta, math.Abs(float64(row[t.ID]-t.Logit)))
	}
	g.MaxLogit = max(g.MaxLogit, largest)
	switch gap := float64(row[best] - row[top.ID]); {
	case best == top.ID:
		g.SameTop++
	case gap > tie*largest:
		g.OK = false
		r.warn("reference %d: token %d leads, the reference's %d is %.3g behind", i, best, top.ID, gap)
	}
	if n := len(cs.Tokens) - 1; n > 0 {
		whole := slices.Clone(row)
		if _, err := fresh(ctx, s, cs.Tokens[:n]); err != nil {
			return err
		}
		last, err := s.Eval(ctx, cs.Tokens[n:])
		if err != nil {
			return err
		}
		for id := range last {
			g.PrefillDelta = max(g.PrefillDelta, math.Abs(float64(last[id]-whole[id])))
		}
	}
	return nil
}

// fresh evaluates tokens from an empty cache.
func fresh(ctx context.Context, s infer.Session, tokens []int32) ([]float32, error) {
	if err := s.Truncate(0); err != nil {
		return nil, err
	}
	return s.Eval(ctx, tokens)
}

// reference computes logits on the CPU provider as plainly as it can: Q/DQ
// pairs as written, which fused operators would blur, and blocks of weights times
// float32, which it would else round to 8 bits. Optimizations stay on: they fold
// the scales, and MatMulNBits with accuracy_level 4 and scales that are not
// constants gives zeros (ONNX Runtime 1.32, both 4 and 8 bits).
func (o *selftestOptions) reference(ctx context.Context, c *common, cmd *cobra.Command, l *loaded) (*modeldir.SelfTest, error) {
	b, _, err := c.newBackend(cmd, &choice{name: "cpu"}, func(b *onnxruntime.Options) {
		b.SessionConfig = map[string]string{"session.disable_quant_qdq": "1", "mlas.qnbit.force_fp32": "1"}
	})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	s, err := b.Open(ctx, l.folder, infer.OpenOptions{Context: min(256, l.session.Info().MaxContext), Threads: c.Threads, NoFitCheck: o.noFitCheck})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	info := s.Info()
	ref := &modeldir.SelfTest{Reference: fmt.Sprintf("the same file on the CPU, plain arithmetic, ONNX Runtime %s %s/%s", info.Version, runtime.GOOS, runtime.GOARCH)}
	// Lengths below, around and above a padded chunk of 64.
	for _, n := range []int{1, 5, 63, 100} {
		if n > info.MaxContext {
			break
		}
		ids, err := speedPrompt(l.tok, n)
		if err != nil {
			return nil, err
		}
		row, err := fresh(ctx, s, ids)
		if err != nil {
			return nil, err
		}
		ref.Cases = append(ref.Cases, modeldir.SelfTestCase{Tokens: ids, Top: modeldir.LargestLogits(row, topTokens)})
	}
	return ref, nil
}

// selftestSpeed is medians over rounds, beside what memory bandwidth allows.
type selftestSpeed struct {
	PromptTokens  int     `json:"prompt_tokens"`
	PrefillRate   float64 `json:"prefill_tokens_per_second"`
	DecodeTokens  int     `json:"decode_tokens"`
	DecodeRate    float64 `json:"decode_tokens_per_second"`
	BytesPerToken int64   `json:"bytes_read_per_token"`
	Bandwidth     float64 `json:"bandwidth_gb_per_second,omitempty"` // 1e9 bytes
	BandwidthFrom string  `json:"bandwidth_from,omitempty"`
	Ceiling       float64 `json:"ceiling_tokens_per_second,omitempty"`
}

// time measures prefill and decode.
func (r *selftest) time(ctx context.Context, l *loaded, o selftestOptions) error {
	s := &r.Speed
	room := l.session.Info().MaxContext - o.decode - 1
	if room < 1 {
		r.warn("a context of %d tokens is too short to time %d tokens", l.session.Info().MaxContext, o.decode)
		return nil
	}
	ids, err := speedPrompt(l.tok, min(o.prompt, room))
	if err != nil {
		return err
	}
	var prefill, decode []float64
	for range o.rounds {
		start := time.Now()
		if _, err := fresh(ctx, l.session, ids); err != nil {
			return err
		}
		prefill = append(prefill, float64(len(ids))/time.Since(start).Seconds())
		rate, err := decodeRate(ctx, l.session, ids, o.decode)
		if err != nil {
			return err
		}
		decode = append(decode, rate)
	}
	s.PromptTokens, s.PrefillRate = len(ids), middle(prefill)
	s.DecodeTokens, s.DecodeRate = o.decode, middle(decode)
	s.BytesPerToken = bytesPerToken(l, r.Provider)
	r.Peak = peakMemory(ctx)
	return s.ceiling(ctx, l.choice.profile, r.Provider, r.CPU.Threads)
}

// decodeRate decodes n tokens behind what the session holds.
func decodeRate(ctx context.Context, s infer.Session, ids []int32, n int) (float64, error) {
	start := time.Now()
	for i := range n {
		if _, err := s.Eval(ctx, ids[i%len(ids):][:1]); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// middle is the median.
func middle(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// bytesPerToken is what decoding one token reads of the weights: all but an
// embedding that is not also the head, and of CoreML float16 whatever the file
// has.
func bytesPerToken(l *loaded, provider string) int64 {
	bytes := l.session.Info().WeightBytes
	m := l.folder.Metadata
	if m == nil {
		return bytes
	}
	rows := int64(0)
	if !m.Architecture.TiedEmbedding {
		rows = int64(m.Architecture.Vocab) * int64(m.Architecture.Hidden)
	}
	if provider == onnxruntime.ProviderName("coreml") {
		return 2 * (m.Architecture.Parameters - rows)
	}
	for _, b := range m.Bits {
		if b.Role == arch.TokenEmbd.String() {
			return bytes - rows*int64(b.Bits)/8
		}
	}
	return bytes
}

// ceiling is bandwidth over bytes per token: the profile's bandwidth, else for
// the CPU what reading memory gives here, else that of the machine detected.
func (s *selftestSpeed) ceiling(ctx context.Context, p *target.Profile, provider string, threads int) error {
	onCPU := provider == onnxruntime.ProviderName("cpu")
	if p == nil && !onCPU {
		m := target.Machine{CPU: hardware.DetectCPU(ctx), Accelerators: hardware.DetectAccelerators(ctx)}
		found, fits, err := target.DetectProfile(m)
		if err != nil {
			return err
		}
		if fits {
			p = found
		}
	}
	switch {
	case p != nil && p.Bandwidth > 0 && (p.Unified || (p.EP == "cpu") == onCPU):
		s.Bandwidth, s.BandwidthFrom = p.Bandwidth, "profile "+p.Name
	case onCPU:
		s.Bandwidth, s.BandwidthFrom = readBandwidth(threads), fmt.Sprintf("measured: %s reading 256 MB", plural(threads, "thread"))
	default:
		return nil
	}
	if s.BytesPerToken > 0 {
		s.Ceiling = s.Bandwidth * 1e9 / float64(s.BytesPerToken)
	}
	return nil
}

// selftestRatio is int4 over int8 of the same model, in alternating rounds.
type selftestRatio struct {
	Int4     string  `json:"int4"`
	Int8     string  `json:"int8"`
	Decode   float64 `json:"decode_speed"`
	Weights  float64 `json:"weight_bytes"`
	Rate4    float64 `json:"int4_tokens_per_second"`
	Rate8    float64 `json:"int8_tokens_per_second"`
	Provider string  `json:"provider"`
}

// ratio measures the model beside its sibling of the other precision.
func (r *selftest) ratio(ctx context.Context, c *common, cmd *cobra.Command, l *loaded, o selftestOptions) error {
	other := map[string]string{"int4": "int8", "int8": "int4"}
	own := filepath.Base(filepath.Clean(l.folder.Dir))
	dir := filepath.Join(filepath.Dir(filepath.Clean(l.folder.Dir)), other[own])
	if o.noRatio || other[own] == "" || r.Speed.DecodeRate == 0 {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, modeldir.ModelFile)); err != nil {
		return nil // there is no sibling
	}
	m := o.modelFlags
	m.model = dir
	sibling, err := m.openWith(ctx, c, cmd, infer.OpenOptions{}, nil)
	if err != nil {
		r.warn("%s could not be measured beside it: %v", dir, err)
		return nil
	}
	defer sibling.close()
	ids, err := speedPrompt(l.tok, 4)
	if err != nil {
		return err
	}
	pair := []*loaded{l, sibling}
	var rates [2][]float64
	for range max(o.rounds, 3) {
		for i, one := range pair {
			if _, err := fresh(ctx, one.session, ids); err != nil {
				return err
			}
			n := min(o.decode, one.session.Info().MaxContext-len(ids))
			rate, err := decodeRate(ctx, one.session, ids, n)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	four, eight := 0, 1
	if own == "int8" {
		four, eight = 1, 0
	}
	var ratios []float64
	for i := range rates[0] {
		ratios = append(ratios, rates[four][i]/rates[eight][i])
	}
	r.Ratio = &selftestRatio{
		Int4: pair[four].folder.Dir, Int8: pair[eight].folder.Dir, Provider: r.Provider,
		Decode: middle(ratios), Rate4: middle(rates[four]), Rate8: middle(rates[eight]),
		Weights: float64(pair[four].session.Info().WeightBytes) / float64(pair[eight].session.Info().WeightBytes),
	}
	return nil
}

// unitCount is how many operations CoreML runs on a compute unit.
type unitCount struct {
	Unit       string         `json:"unit"`
	Operations int            `json:"operations"`
	Cost       float64        `json:"estimated_cost"`
	Kinds      map[string]int `json:"kinds"`
}

// readComputePlan counts the lines that the CoreML provider logs with
// ProfileComputePlan=1:
//
//	… Operation: ios16.matmul, Device Usage: <MLNeuralEngineComputeDevice: 0x…>, Estimated Cost: 0.01
//
// Source: ProfileBlock in model.mm of ONNX Runtime 1.24.
func readComputePlan(path string) ([]unitCount, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the compute plan: %w", err)
	}
	units := map[string]*unitCount{}
	for line := range strings.Lines(string(data)) {
		_, rest, ok := strings.Cut(line, "Operation: ")
		if !ok {
			continue
		}
		kind, rest, ok := strings.Cut(rest, ", Device Usage: ")
		if !ok {
			continue
		}
		device, cost, ok := strings.Cut(rest, ", Estimated Cost: ")
		if !ok {
			continue
		}
		name := computeUnit(device)
		u := units[name]
		if u == nil {
			u = &unitCount{Unit: name, Kinds: map[string]int{}}
			units[name] = u
		}
		u.Operations++
		u.Kinds[kind]++
		var weight float64
		if _, err := fmt.Sscan(cost, &weight); err == nil && !math.IsNaN(weight) && !math.IsInf(weight, 0) {
			u.Cost += weight
		}
	}
	if len(units) == 0 {
		return nil, fmt.Errorf("read the compute plan %s: it has no line with \"Operation: …, Device Usage: …\"", path)
	}
	var list []unitCount
	for _, name := range slices.Sorted(maps.Keys(units)) {
		list = append(list, *units[name])
	}
	return list, nil
}

// computeUnit reads the description of an MLComputeDevice.
func computeUnit(device string) string {
	for part, unit := range map[string]string{"NeuralEngine": "Neural Engine", "GPU": "GPU", "CPU": "CPU"} {
		if strings.Contains(device, "ML"+part) {
			return unit
		}
	}
	return "not told"
}
