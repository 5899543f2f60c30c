package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/eval/runcode"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// DefaultMaxTokens bounds an answer unless asked otherwise, less than
// lm-evaluation-harness gives: IFEval's 1280 tokens of each of 20 answers would
// be most of the time.
const DefaultMaxTokens = 256

// Rows is what sessions should be opened with (infer.OpenOptions) for
// continuations to be evaluated together.
const Rows = 64

// Pick is n of the set's questions, as many of each category as can be: with
// seed 0 the first of the set, else drawn by the seed. A smaller pick is the
// beginning of a larger one of the same seed.
func Pick(n int, seed uint64) ([]questions.Question, error) {
	if n < 1 || n > questions.Size {
		return nil, fmt.Errorf("the set has %d questions: ask for 1 to %d, not %d", questions.Size, questions.Size, n)
	}
	all, err := questions.Set(questions.Size)
	if err != nil {
		return nil, err
	}
	if seed != 0 {
		by := map[questions.Category][]questions.Question{}
		for _, q := range all {
			by[q.Category] = append(by[q.Category], q)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for _, c := range questions.Categories() {
			r.Shuffle(len(by[c]), func(i, j int) { by[c][i], by[c][j] = by[c][j], by[c][i] })
		}
		for i, q := range all {
			all[i], by[q.Category] = by[q.Category][0], by[q.Category][1:]
		}
	}
	return all[:n:n], nil
}

// AskOptions say how questions are put.
type AskOptions struct {
	// MaxTokens bounds written answers whose own limit is larger; 0 for none.
	MaxTokens int
	// Code permits to run programs that the model wrote (runcode.Options.Allow).
	// Without it the likelihood of the canonical solution is measured.
	Code runcode.Options
	// Context of the session to be, 0 for the model's own limit.
	Context int
}

// Asker puts questions to one model.
type Asker struct {
	o      AskOptions
	tok    *tokenizer.Tokenizer
	prompt *chat.Prompter // nil: the model has no chat template
	ends   []int32
	tasks  []*task
	limit  int // longest sequence
}

// task is a question made ready.
type task struct {
	q        questions.Question
	pairs    []pair
	requests []questions.Request
	// Of a written answer:
	g      questions.Generation
	prompt []int32
	text   string // of the prompt
	cut    int
	err    error // why it cannot be asked
}

// written says that an answer is to be written.
func (t *task) written() bool { return t.g.MaxTokens > 0 }

// cost is about how long a question takes, in tokens of prefill.
func (t *task) cost() float64 {
	n := 0
	for i, p := range t.pairs {
		n += len(p.continuation) + 16
		if i == 0 || !slices.Equal(p.context, t.pairs[i-1].context) {
			n += len(p.context)
		}
	}
	if t.written() {
		n += len(t.prompt) + decodeCost*t.g.MaxTokens
	}
	return float64(n)
}

// decodeCost is how many tokens of prefill take as long as one of an answer, by
// the measure of SmolLM2 on a CPU. It moves a progress bar.
const decodeCost = 8

// NewAsker makes questions ready for a model: prompts are rendered and encoded.
func NewAsker(ctx context.Context, folder *modeldir.Folder, tok *tokenizer.Tokenizer, qs []questions.Question, o AskOptions) (*Asker, error) {
	a := &Asker{o: o, tok: tok, ends: chat.EndTokens(folder, tok), limit: folder.MaxContext()}
	if o.Context > 0 && (a.limit <= 0 || o.Context < a.limit) {
		a.limit = o.Context
	}
	var err error
	a.prompt, err = chat.NewPrompter(folder, tok)
	if err != nil && !errors.Is(err, modeldir.ErrNoTemplate) {
		return nil, err
	}
	for _, q := range qs {
		t := &task{q: q}
		if t.err = a.prepare(ctx, t); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		a.tasks = append(a.tasks, t)
	}
	return a, nil
}

// ChatTemplate says that the model has one, through which questions that ask for
// it go.
func (a *Asker) ChatTemplate() bool { return a.prompt != nil }

// Context is the longest sequence the questions need.
func (a *Asker) Context() int {
	n := 1
	for _, t := range a.tasks {
		for _, p := range t.pairs {
			n = max(n, len(p.context)+len(p.continuation))
		}
		if t.written() {
			n = max(n, len(t.prompt)+t.g.MaxTokens+1)
		}
	}
	if a.limit > 0 {
		n = min(n, a.limit)
	}
	return n
}

func (a *Asker) prepare(ctx context.Context, t *task) error {
	g, written := t.q.Generation()
	if written && (t.q.Kind != questions.KindCode || a.o.Code.Allow) {
		if a.o.MaxTokens > 0 {
			g.MaxTokens = min(g.MaxTokens, a.o.MaxTokens)
		}
		return a.prepareText(ctx, t, g)
	}
	t.requests = t.q.Requests()
	for _, r := range t.requests {
		p, err := encodePair(a.tok, r)
		if err == nil {
			err = p.fit(a.limit)
		}
		if err != nil {
			return err
		}
		t.cut = max(t.cut, p.cut)
		t.pairs = append(t.pairs, p)
	}
	return nil
}

func (a *Asker) prepareText(ctx context.Context, t *task, g questions.Generation) error {
	if g.Chat && a.prompt != nil {
		// A model that thinks aloud would not come to its answer.
		thinking := false
		p, err := a.prompt.Prompt(ctx, chat.Request{
			Messages: []chattemplate.Message{{Role: "user", Content: g.Prompt}}, Thinking: &thinking,
		})
		if err != nil {
			return err
		}
		t.prompt, t.text = p.IDs, p.Text
	} else {
		t.prompt, t.text = a.tok.Encode(g.Prompt, tokenizer.EncodeOptions{AddSpecial: true}), g.Prompt
	}
	if a.limit > 0 {
		if a.limit <= g.MaxTokens {
			g.MaxTokens = max(1, a.limit/2)
		}
		// From the left, as lm-evaluation-harness does.
		if over := len(t.prompt) + g.MaxTokens - a.limit; over > 0 {
			t.prompt, t.cut = t.prompt[over:], over
		}
	}
	t.g = g
	return nil
}

// Model is what questions are put to.
type Model struct {
	// Session should be opened with [Rows]; likelihoods are measured on it.
	Session infer.Session
	// Batch, where not nil, writes answers, several at a time.
	Batch infer.Batch
}

// Ask puts all questions but those skipped to a model: first those with choices,
// then those whose answers are written. Each record is handed over as it is made;
// share is how much of the work is then done. A question that cannot be asked is
// a record with an error; a model that fails is an error.
func (a *Asker) Ask(ctx context.Context, m Model, skip map[string]bool, each func(r Record, share float64) error) error {
	var choices, texts []*task
	total, done := 0.0, 0.0
	for _, t := range a.tasks {
		switch {
		case skip[t.q.ID]:
			continue
		case t.written():
			texts = append(texts, t)
		default:
			choices = append(choices, t)
		}
		total += t.cost()
	}
	give := func(t *task, r Record) error {
		done += t.cost()
		return each(r, done/max(total, 1))
	}
	for _, t := range choices {
		r, err := a.choose(ctx, m.Session, t)
		if err != nil {
			return fmt.Errorf("question %s: %w", t.q.ID, err)
		}
		if err := give(t, r); err != nil {
			return err
		}
	}
	return a.write(ctx, m, texts, give)
}

// record begins the record of a question.
func (t *task) record() Record {
	r := Record{ID: t.q.ID, Category: string(t.q.Category), Task: t.q.Task, Prompt: cmp.Or(t.text, t.q.Prompt), Chance: t.q.Chance}
	if t.err != nil {
		r.Error, r.Scored = "cannot be asked: "+t.err.Error(), t.q.Kind != questions.KindCode
	}
	return r
}

// judged enters a verdict.
func (r *Record) judged(v questions.Verdict, cut int) {
	r.Metric, r.Answer, r.Want = v.Metric, v.Answer, v.Expected
	r.Scored, r.Right, r.Metrics, r.Note = v.Counts, v.Right && v.Counts, v.Metrics, v.Note
	r.Score = v.Metrics[v.Metric]
	if cut > 0 {
		r.Note = strings.TrimPrefix(fmt.Sprintf("%s; %d tokens of the prompt had no room and were left out from its beginning", r.Note, cut), "; ")
	}
}

// choose asks a question by likelihoods.
func (a *Asker) choose(ctx context.Context, s infer.Session, t *task) (Record, error) {
	r := t.record()
	if t.err != nil {
		return r, nil
	}
	start := time.Now()
	scores, err := likelihoods(ctx, s, t.pairs)
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(start).Seconds()
	for i, score := range scores {
		p := t.pairs[i]
		c := Choice{
			Text: t.requests[i].Continuation, LogLikelihood: score.LogLikelihood,
			Tokens: score.Tokens, Greedy: score.Greedy,
		}
		if t.requests[i].Context != t.q.Prompt {
			c.Context = t.requests[i].Context
		}
		c.Characters = len([]rune(strings.TrimSpace(c.Text)))
		if t.q.Kind == questions.KindChoice {
			c.Characters = len([]rune(t.q.Choices[i]))
		}
		r.PromptTokens = max(r.PromptTokens, len(p.context))
		r.Choices = append(r.Choices, c)
	}
	var v questions.Verdict
	if t.q.Kind == questions.KindCode {
		v, err = t.q.JudgeCanonical(scores[0])
	} else {
		v, err = t.q.JudgeChoice(scores)
	}
	if err != nil {
		return r, err
	}
	r.judged(v, t.cut)
	return r, nil
}

// write asks questions whose answers are written, greedily, as many at a time as
// the batch has slots.
func (a *Asker) write(ctx context.Context, m Model, tasks []*task, give func(*task, Record) error) error {
	batch := m.Batch
	if batch == nil {
		batch = infer.Single(m.Session)
	}
	// Prompts that begin alike come one after the other.
	slices.SortStableFunc(tasks, func(x, y *task) int { return cmp.Compare(x.q.Source, y.q.Source) })
	var asked []*task
	requests := func(yield func(infer.BatchRequest) bool) {
		for _, t := range tasks {
			if t.err != nil {
				continue
			}
			asked = append(asked, t)
			if !yield(a.request(t)) {
				return
			}
		}
	}
	for _, t := range tasks {
		if t.err != nil {
			if err := give(t, t.record()); err != nil {
				return err
			}
		}
	}
	for answer, err := range infer.GenerateBatch(ctx, batch, iter.Seq[infer.BatchRequest](requests)) {
		if err != nil {
			return fmt.Errorf("write answers: %w", err)
		}
		t := asked[answer.Index]
		if ctx.Err() != nil {
			continue // what was cut short is asked again
		}
		r, err := a.judge(ctx, t, answer)
		if err != nil {
			return fmt.Errorf("question %s: %w", t.q.ID, err)
		}
		if err := give(t, r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// request is how a text is asked for.
func (a *Asker) request(t *task) infer.BatchRequest {
	dec := a.tok.NewDecoder(true)
	if !t.g.Chat || a.prompt == nil { // the answer goes on the prompt's text
		for _, id := range t.prompt {
			dec.Push(id)
		}
	}
	return infer.BatchRequest{Prompt: t.prompt, Decoder: dec, Options: infer.Options{
		MaxTokens: t.g.MaxTokens, StopTokens: a.ends, StopStrings: t.g.Until, Vocab: a.tok.VocabSize(),
	}}
}

// judge judges a written answer.
func (a *Asker) judge(ctx context.Context, t *task, answer infer.BatchAnswer) (Record, error) {
	r := t.record()
	r.PromptTokens, r.AnswerTokens = len(t.prompt), len(answer.Result.TokenIDs)
	r.Finish = string(answer.Result.Reason)
	r.Seconds = (answer.Result.Timings.Prefill + answer.Result.Timings.Decode).Seconds()
	text := answer.Result.Text
	if answer.Err != nil {
		r.Error, r.Scored, r.Answer = answer.Err.Error(), true, text
		return r, nil
	}
	if t.g.Chat { // what a model thinks before it answers is not its answer
		if _, after, found := strings.Cut(text, "</think>"); found {
			text = strings.TrimLeft(after, "\r\n")
		}
	}
	var v questions.Verdict
	var err error
	if t.q.Kind != questions.KindCode {
		v, err = t.q.JudgeText(text)
	} else {
		v, err = a.runCode(ctx, t.q, text)
	}
	if err != nil {
		return r, err
	}
	r.judged(v, t.cut)
	r.Answer, r.Extracted = text, v.Answer
	if r.Extracted == r.Answer {
		r.Extracted = ""
	}
	return r, nil
}

// runCode judges a program by running it.
func (a *Asker) runCode(ctx context.Context, q questions.Question, text string) (questions.Verdict, error) {
	program, err := q.Program(text)
	if err != nil {
		return questions.Verdict{}, err
	}
	r, err := runcode.Run(ctx, program, a.o.Code)
	if err != nil {
		return questions.Verdict{}, err
	}
	return q.JudgeRun(text, r.Passed, r.Reason)
}
