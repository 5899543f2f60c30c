package chat

import (
	"context"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// Chat answers conversations with one session.
type Chat struct {
	*Prompter
	s    infer.Session
	ends []int32
}

// Answer is the model's message and how it was made.
type Answer struct {
	Message chattemplate.Message
	Result  infer.Result
	// ThinkingTokens is how many of the tokens were reasoning.
	ThinkingTokens int
}

// New makes a chat over a session, which stays the caller's to close.
func New(folder *modeldir.Folder, tok *tokenizer.Tokenizer, s infer.Session) (*Chat, error) {
	p, err := NewPrompter(folder, tok)
	if err != nil {
		return nil, err
	}
	return &Chat{Prompter: p, s: s, ends: EndTokens(folder, tok)}, nil
}

// EndTokens is the list of ids that end an answer: the folder's, else the end
// token the tokenizer names.
func EndTokens(folder *modeldir.Folder, tok *tokenizer.Tokenizer) []int32 {
	if ids := folder.EndTokens(); len(ids) > 0 {
		return ids
	}
	if id, ok := tok.ID(string(folder.Tokenizer.EOSToken)); ok {
		return []int32{id}
	}
	return nil
}

// Reply answers a conversation, calling each, if not nil, for every piece of
// the answer. The model's end tokens and vocabulary are added to o. When ctx
// ends, the answer so far comes back with the context's error.
func (c *Chat) Reply(ctx context.Context, r Request, o infer.Options, each func(Part)) (Answer, error) {
	prompt, err := c.Prompt(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	o.StopTokens = append(o.StopTokens[:len(o.StopTokens):len(o.StopTokens)], c.ends...)
	o.Vocab = c.tok.VocabSize()

	var content, reasoning strings.Builder
	collect := func(p Part) {
		if p.Reasoning {
			reasoning.WriteString(p.Text)
		} else {
			content.WriteString(p.Text)
		}
		if each != nil {
			each(p)
		}
	}
	var a Answer
	split := newReasoningSplitter(prompt.InReasoning)
	a.Result, err = infer.Generate(c.s, c.tok.NewDecoder(true), prompt.IDs, o).Run(ctx, func(t infer.Token) {
		split.push(t.Text, collect)
		if t.ID >= 0 && split.state == inReasoning {
			a.ThinkingTokens++
		}
	})
	split.flush(collect)
	a.Message = chattemplate.Message{Role: "assistant", Content: content.String(), ReasoningContent: reasoning.String()}
	if r.Tools != nil {
		a.Message.Content, a.Message.ToolCalls = parseToolCalls(a.Message.Content)
	}
	return a, err
}
