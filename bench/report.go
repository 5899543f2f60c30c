package bench

import "time"

// Version is the number of the report's schema and of the way of measuring.
// Readers refuse another one: figures of two ways are not compared.
const Version = 1

// Report is one run of the benchmark over the artifacts of a model. Times are in
// seconds, sizes in bytes, energy in joules; what was not measured is absent.
type Report struct {
	Version   int        `json:"bench_version"`
	Program   string     `json:"program"` // with its version
	Date      time.Time  `json:"date"`
	Model     string     `json:"model"` // id of the source, or the folder's name
	Settings  Settings   `json:"settings"`
	Machine   Machine    `json:"machine"`
	Artifacts []Measured `json:"artifacts"` // in order of path
	// Warnings say what makes the figures doubtful, Notes what is left out and why.
	Warnings []string `json:"warnings,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// Settings are what was asked for. Runs with different settings are not
// compared.
type Settings struct {
	Prompt      int `json:"prompt_tokens"`
	Generate    int `json:"generate_tokens"` // after the prompt, the first one included
	Repetitions int `json:"repetitions"`     // rounds after the warm-up
	Loads       int `json:"loads"`           // cold and warm loads each
	Threads     int `json:"threads"`
}

// Machine is where a report was made. Reports of different machines are not
// compared; Bandwidth, Busy and Throttled are findings of the run.
type Machine struct {
	System   string   `json:"system"` // "linux/amd64"
	CPU      string   `json:"cpu"`
	Features string   `json:"features"` // of the CPU, by name
	Cores    int      `json:"cores"`    // physical, within a container's limit
	Memory   uint64   `json:"memory_bytes"`
	Devices  []string `json:"devices,omitempty"` // other than the CPU, with their drivers
	// Bandwidth is what the CPU reads of its memory per second with the
	// settings' threads.
	Bandwidth float64 `json:"bandwidth_bytes_per_second,omitempty"`
	// Busy is the share of the cores that other programs used during the rounds.
	Busy *Stat `json:"busy,omitempty"`
	// Throttled says how the cores were slowed down during the rounds; "" where
	// they were not, or nothing tells.
	Throttled string `json:"throttled,omitempty"`
}

// Stat is a figure with its interval: the median of the samples, and two of them
// that hold the median of the whole with probability Coverage, whatever the
// distribution. Coverage is the least one of at least 95 %, or less where there
// are fewer than six samples; Low and High are then the least and the greatest.
type Stat struct {
	Median   float64   `json:"median"`
	Low      float64   `json:"low"`
	High     float64   `json:"high"`
	Coverage float64   `json:"coverage"`
	Samples  []float64 `json:"samples"` // in order of time
}

// Percentile is a figure that so many percent of Count samples do not exceed,
// with an interval as Stat has.
type Percentile struct {
	Value    float64 `json:"value"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Coverage float64 `json:"coverage"`
	Count    int     `json:"count"`
}

// Measured is what was found of one artifact.
type Measured struct {
	Artifact      string  `json:"artifact"` // path in the model folder, such as "onnx/cpu/int4"
	Format        string  `json:"format"`   // "onnx", "gguf", "mlx"
	Target        string  `json:"target,omitempty"`
	Recipe        string  `json:"recipe,omitempty"`
	Runtime       string  `json:"runtime,omitempty"`  // with its version, as "onnxruntime 1.32.0"
	Provider      string  `json:"provider,omitempty"` // what computes, as "CPUExecutionProvider"
	Bytes         int64   `json:"size_bytes"`         // of the weight files
	BitsPerWeight float64 `json:"bits_per_weight,omitempty"`

	// Loading a model, in a new process each time, from opening the library to a
	// session that can evaluate. Before a cold load the artifact's files are
	// dropped from the system's cache, before a warm one they are not.
	LoadCold *Stat `json:"load_cold_seconds,omitempty"`
	LoadWarm *Stat `json:"load_warm_seconds,omitempty"`

	FirstToken *Stat `json:"first_token_seconds,omitempty"` // from the prompt's tokens to the first one chosen, model loaded
	Prefill    *Stat `json:"prefill_tokens_per_second,omitempty"`
	// Decode is tokens after the first one by the time they took, one value a
	// round; DecodeByGap is one by the median time between two of them, which an
	// interruption changes less.
	Decode      *Stat `json:"decode_tokens_per_second,omitempty"`
	DecodeByGap *Stat `json:"decode_by_median_gap,omitempty"`
	Gaps        *Gaps `json:"inter_token_seconds,omitempty"`

	PeakMemory   int64     `json:"peak_memory_bytes,omitempty"` // resident, the most of the process and its children
	CacheBytes   int64     `json:"cache_bytes_per_token"`       // of keys and values
	Energy       *Energy   `json:"energy,omitempty"`            // of decoding
	Roofline     *Roofline `json:"roofline,omitempty"`          // of decoding
	Overhead     *Stat     `json:"overhead,omitempty"`          // share of decoding outside the session's evaluations
	OverheadNote string    `json:"overhead_measured,omitempty"` // what exactly was measured
	Busy         *Stat     `json:"busy,omitempty"`              // share of the cores others used, a value a round
	Notes        []string  `json:"notes,omitempty"`
	// Error says why there are no figures, or why they end early.
	Error string `json:"error,omitempty"`
}

// Gaps are times from one token to the next, over all rounds.
type Gaps struct {
	P50 Percentile `json:"p50"`
	P95 Percentile `json:"p95"`
	P99 Percentile `json:"p99"`
}

// Energy is what was spent while decoding, idle power and other programs
// included: the counters are the device's, not the process's.
type Energy struct {
	PerToken Stat   `json:"joules_per_token"`
	Source   string `json:"source"` // "RAPL: package-0, dram"
}

// Roofline sets the decode rate beside what the memory allows. See [NewRoofline]
// for what is counted.
type Roofline struct {
	WeightBytes   int64   `json:"weight_bytes"` // read per token
	CacheBytes    int64   `json:"cache_bytes"`  // read per token, at the mean length of the sequence
	BytesPerToken int64   `json:"bytes_per_token"`
	Achieved      float64 `json:"achieved_bytes_per_second"`
	Bandwidth     float64 `json:"bandwidth_bytes_per_second"`
	Source        string  `json:"bandwidth_source"` // measured here, or a profile's figure
	Ceiling       float64 `json:"ceiling_tokens_per_second"`
	Share         float64 `json:"share_of_ceiling"`
}

// OK reports whether the artifact has figures.
func (m *Measured) OK() bool { return m.Error == "" && m.Decode != nil }
