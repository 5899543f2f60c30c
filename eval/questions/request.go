package questions

import (
	"strings"
	"unicode"
)

// Request asks for the log-likelihood of Continuation after Context: the sum of
// the log-probabilities of its tokens. As in lm-evaluation-harness, the leading
// blank belongs to the continuation, a context never ends in white space, and
// a runner encodes Context+Continuation together, then takes the tokens after
// as many as Context alone has.
type Request struct {
	Context      string `json:"context"`
	Continuation string `json:"continuation"`
}

// Score is what a model gives for a Request.
type Score struct {
	LogLikelihood float64 `json:"log_likelihood"` // natural logarithm, summed over the continuation
	Tokens        int     `json:"tokens"`         // of the continuation
	// Greedy says that each token of the continuation was the most likely one.
	Greedy bool `json:"greedy"`
}

// Requests are the log-likelihoods that judge q: one for each of Choices, for
// code one of the canonical solution, for other kinds none.
func (q Question) Requests() []Request {
	switch {
	case q.Kind == KindCode:
		context := q.context()
		return []Request{{context, q.Prompt[len(context):] + q.Canonical}}
	case q.Kind != KindChoice:
		return nil
	}
	out := make([]Request, len(q.Choices))
	for i, c := range q.Choices {
		if q.Source == "winogrande" {
			// Partial evaluation: the choice fills the gap in the context, what
			// follows the gap is the continuation, the same for both.
			before, after, _ := strings.Cut(q.Prompt, "_")
			out[i] = Request{before + c, " " + strings.TrimSpace(after)}
			continue
		}
		out[i] = Request{q.Prompt, " " + c}
	}
	return out
}

// context is the prompt without the white space at its end. HumanEval's prompts
// end with a line feed, and the function's body begins with blanks: tokenizers
// make one token of the two, so that a model never saw a line feed alone before a
// body, and writes anything but one after it.
func (q Question) context() string { return strings.TrimRightFunc(q.Prompt, unicode.IsSpace) }

// Generation asks for a text, decoded greedily.
type Generation struct {
	Prompt string `json:"prompt"`
	// Chat says that Prompt is what a user would write: a model with a chat
	// template gets it as one user message, any other as plain text.
	Chat bool `json:"chat"`
	// Until are texts that end the answer; the answer is what comes before the
	// first of them. Empty: the answer ends with the model's end of turn.
	Until     []string `json:"until,omitempty"`
	MaxTokens int      `json:"max_tokens"`
}

// Cut is text up to the first of g.Until.
func (g Generation) Cut(text string) string {
	for _, u := range g.Until {
		text, _, _ = strings.Cut(text, u)
	}
	return text
}

// Done says that text holds one of g.Until, so that no more is needed.
func (g Generation) Done(text string) bool {
	for _, u := range g.Until {
		if strings.Contains(text, u) {
			return true
		}
	}
	return false
}

// Generation is the text asked for; ok is false for choices, which need none.
func (q Question) Generation() (g Generation, ok bool) {
	switch q.Kind {
	case KindNumber: // gsm8k.yaml; 256 tokens is the harness's default
		return Generation{Prompt: q.Prompt, MaxTokens: 256, Until: []string{"Question:", "</s>", "<|im_end|>"}}, true
	case KindCode: // humaneval.yaml, there with 1024 tokens and the prompt's line feed
		return Generation{Prompt: q.context(), MaxTokens: 384, Until: []string{"\nclass", "\ndef", "\n#", "\nif", "\nprint"}}, true
	case KindInstructions: // ifeval.yaml, there with 1280 tokens
		return Generation{Prompt: q.Prompt, MaxTokens: 512, Chat: true}, true
	}
	return Generation{}, false
}
