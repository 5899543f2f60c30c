package eval

import (
	"time"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
)

// ReportVersion is the version of [Report] as JSON. It grows when a field
// changes its meaning; new fields alone do not change it.
const ReportVersion = 1

// Report is what an evaluation found: the content of the results file.
type Report struct {
	Version int    `json:"version"`
	Program string `json:"program,omitempty"` // name and version
	Model   string `json:"model,omitempty"`   // id of the checkpoint
	// Machine in words, such as "linux/amd64 · Intel Xeon · 2 cores".
	Machine  string    `json:"machine,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`

	Settings Settings `json:"settings"`
	// SettingsSHA256 tells runs apart: figures of runs with different settings
	// are not comparable and are never mixed.
	SettingsSHA256 string `json:"settings_sha256"`

	// Reference names what the artifacts are compared with: the Path of one of
	// them, or what a logits file says of itself; "" where there is nothing.
	Reference string     `json:"reference,omitempty"`
	Artifacts []Artifact `json:"artifacts"`
	Notes     []string   `json:"notes,omitempty"`
}

// Settings are what decides figures, beside the artifact itself.
type Settings struct {
	// NumQuestions is how many were asked, QuestionSet names their collection and
	// its version, Seed picks among them.
	NumQuestions int    `json:"num_questions"`
	QuestionSet  string `json:"question_set,omitempty"`
	Seed         uint64 `json:"seed"`
	// QuestionsSHA256 is the hash of the questions picked, with their prompts.
	QuestionsSHA256 string `json:"questions_sha256,omitempty"`
	// CodeExecution says that model-written programs were run.
	CodeExecution bool `json:"code_execution"`
	// MaxTokens bounds an answer where the question's own limit is larger; 0 for
	// none.
	MaxTokens int `json:"max_tokens,omitempty"`
	// Context is the longest sequence of any artifact, to which prompts are cut
	// for all; 0 where it is not known.
	Context int `json:"context,omitempty"`

	// Definitions of perplexity, such as "llama.cpp:512" and
	// "huggingface:1024:512". The first is also how a text is cut where logits
	// are compared with a reference's.
	Definitions []string `json:"perplexity_definitions,omitempty"`
	Text        string   `json:"text,omitempty"` // its name
	TextSHA256  string   `json:"text_sha256,omitempty"`
	Tokens      int      `json:"tokens,omitempty"` // of the text, at most
	// Reference is the artifact or file asked for.
	Reference string `json:"reference,omitempty"`
	// ReferenceSHA256 is that of the artifact or of the head of the file.
	ReferenceSHA256 string `json:"reference_sha256,omitempty"`
}

// Artifact is what was found of one artifact.
type Artifact struct {
	// Path is that of its folder in the model's, with slashes: "onnx/cpu/int4",
	// "gguf/Q4_K_M", "mlx/4bit-g64".
	Path          string  `json:"path"`
	Format        string  `json:"format"`           // "onnx", "gguf", "mlx"
	Target        string  `json:"target,omitempty"` // "cpu", "tensorrt", "base"; else the format's runtime
	Recipe        string  `json:"recipe,omitempty"`
	Bytes         int64   `json:"bytes,omitempty"` // of the weight files
	BitsPerWeight float64 `json:"bits_per_weight,omitempty"`
	SHA256        string  `json:"sha256,omitempty"` // modeldir.Artifact's

	// IsReference marks the one that the others are compared with.
	IsReference bool `json:"is_reference,omitempty"`

	// Perplexities are in the order of Settings.Definitions.
	Perplexities []Perplexity `json:"perplexities,omitempty"`
	// Fidelity is nil without a reference, and for the reference itself.
	Fidelity  *Fidelity  `json:"fidelity,omitempty"`
	Questions *Questions `json:"questions,omitempty"`

	// NotRun says why nothing was measured, though nothing is wrong with the
	// artifact: this machine lacks what runs it.
	NotRun string `json:"not_run,omitempty"`
	// QuestionsNotRun says so of the questions alone: an artifact for a device
	// that is not here can be computed in plain arithmetic, not asked.
	QuestionsNotRun string `json:"questions_not_run,omitempty"`
	// Problems say what went wrong.
	Problems []string `json:"problems,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"` // of work, loading included
}

// Perplexity is a model's perplexity by one definition.
type Perplexity struct {
	// Definition is fidelity.Definition's text: "llama.cpp:512",
	// "huggingface:1024:512". Values by different definitions, or on different
	// texts, are not comparable.
	Definition string `json:"definition"`
	Text       string `json:"text"`
	Scored     int    `json:"scored"` // tokens whose likelihood counts
	// Arithmetic is what computed it: "llama.cpp v0.5.0 on CPU"; "" for the
	// provider's own on this CPU.
	Arithmetic string  `json:"arithmetic,omitempty"`
	Value      float64 `json:"value"`
	StdErr     float64 `json:"stderr"`
	// Ratio is this over the reference's by the same definition, on the same
	// tokens; 0 without a reference. Its error is of the paired differences and
	// known for the first definition only, else 0.
	Ratio       float64 `json:"ratio,omitempty"`
	RatioStdErr float64 `json:"ratio_stderr,omitempty"`
}

// Fidelity is how far an artifact's logits are from the reference's.
type Fidelity struct {
	Reference  string `json:"reference"`
	Text       string `json:"text"`
	Definition string `json:"definition"`
	Arithmetic string `json:"arithmetic,omitempty"`
	fidelity.Result
}

// Questions are the answers of one artifact.
type Questions struct {
	Categories []Score `json:"categories"` // in the order of the question set
	Total      Score   `json:"total"`
	// ChatTemplate says that prompts of generated answers went through the
	// model's chat template.
	ChatTemplate bool `json:"chat_template"`
	// Paired compares with the reference's answers; nil without one.
	Paired  *Paired  `json:"paired,omitempty"`
	Records []Record `json:"records"`
}

// Score is how many questions were answered right.
type Score struct {
	Category string  `json:"category,omitempty"` // "" for the total
	Right    int     `json:"right"`
	Total    int     `json:"total"`
	Accuracy float64 `json:"accuracy"` // Right/Total
	// Low and High are the 95 % interval of the accuracy, by Wilson.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Chance is what guessing scores, the mean over the questions.
	Chance float64 `json:"chance"`
	// Unscored questions have no right answer to count, such as code that was
	// not run; they are in no other field.
	Unscored int `json:"unscored,omitempty"`
}

// Paired compares two artifacts on the questions that both answered.
type Paired struct {
	Reference string `json:"reference"`
	Questions int    `json:"questions"`
	// Gained were answered right by this artifact only, Lost by the reference
	// only: the discordant pairs.
	Gained int `json:"gained"`
	Lost   int `json:"lost"`
	// Difference of the accuracies, this less the reference's, with its 95 %
	// interval.
	Difference float64 `json:"difference"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	// P is the two-sided p-value of McNemar's exact test: how likely so unequal
	// counts are where both models are equally good.
	P float64 `json:"p"`
}

// Record is one question as it was asked and answered.
type Record struct {
	ID       string `json:"id"` // of the question
	Category string `json:"category"`
	Task     string `json:"task"` // "mmlu", "gsm8k", …
	// Metric is how it was scored: "acc", "acc_norm", "exact_match",
	// "canonical_loglikelihood", …
	Metric string `json:"metric"`
	Prompt string `json:"prompt"` // as the tokenizer got it
	// Answer is what the model wrote, or the choice it found likeliest.
	Answer string `json:"answer"`
	Want   string `json:"want,omitempty"` // the right answer, where there is one
	// Choices are there where one was to be chosen.
	Choices []Choice `json:"choices,omitempty"`
	// Extracted is what was taken from a written answer, such as the last number.
	Extracted string `json:"extracted,omitempty"`
	// Score is Metric's value: 1 for right and 0 for wrong; where Scored is false
	// a figure of another kind, such as a log-likelihood per byte. Metrics has
	// all that were computed.
	Score   float64            `json:"score"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Right   bool               `json:"right"`
	Scored  bool               `json:"scored"` // Right counts
	Chance  float64            `json:"chance"` // of a guess being right
	// Note says what the check found, such as the instructions not followed.
	Note string `json:"note,omitempty"`

	PromptTokens int `json:"prompt_tokens"`
	AnswerTokens int `json:"answer_tokens,omitempty"`
	// Finish is why a written answer ended: infer.FinishReason.
	Finish  string  `json:"finish,omitempty"`
	Seconds float64 `json:"seconds"`
	// Error says why the question could not be asked; it then counts as wrong.
	Error string `json:"error,omitempty"`
}

// Choice is one of the answers of a question.
type Choice struct {
	Text string `json:"text"` // the continuation whose likelihood was measured
	// Context precedes it where choices differ in what comes before.
	Context       string  `json:"context,omitempty"`
	LogLikelihood float64 `json:"loglikelihood"` // nats, sum over tokens
	Tokens        int     `json:"tokens"`
	Characters    int     `json:"characters"` // of the answer, by which acc_norm divides
	Greedy        bool    `json:"greedy"`     // the model itself would have written it
}

// Find is the artifact with a path, nil where there is none.
func (r *Report) Find(path string) *Artifact {
	for i := range r.Artifacts {
		if r.Artifacts[i].Path == path {
			return &r.Artifacts[i]
		}
	}
	return nil
}

// Perplexity is that by a definition, nil where it was not measured.
func (a *Artifact) Perplexity(definition string) *Perplexity {
	for i := range a.Perplexities {
		if a.Perplexities[i].Definition == definition {
			return &a.Perplexities[i]
		}
	}
	return nil
}

// Score is that of a category, nil where it was not asked.
func (q *Questions) Score(category string) *Score {
	for i := range q.Categories {
		if q.Categories[i].Category == category {
			return &q.Categories[i]
		}
	}
	return nil
}
