package infer

import (
	"context"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// Session is a loaded model with one sequence of tokens and its KV cache.
type Session interface {
	Info() Info

	// Eval appends tokens to the sequence, in chunks where there are many,
	// and returns the logits [Info().Vocab] that follow the last one. They
	// may be written to and are valid until the next call. A failed or
	// cancelled call leaves only whole chunks of its tokens in the sequence.
	Eval(ctx context.Context, tokens []int32) (logits []float32, err error)

	// EvalAll appends tokens and hands over the logits of every position,
	// pos counting from the start of tokens; they may be written to and are
	// valid until each returns. It takes at most Info().Rows tokens, or any
	// number in a session opened with AllLogits. Where each fails, the tokens
	// evaluated so far stay in the sequence.
	EvalAll(ctx context.Context, tokens []int32, each func(pos int, logits []float32) error) error

	// Tokens is the sequence in the cache; the slice must not be changed and
	// is valid until the next call. Len is its length.
	Tokens() []int32
	Len() int

	// Truncate forgets all but the first n tokens.
	Truncate(n int) error

	Close() error
}

// Info describes an open session.
type Info struct {
	Backend  string // "onnxruntime"
	Version  string // of the runtime library
	Provider string // "CPUExecutionProvider"
	Model    string // path of the model

	Vocab      int // width of a row of logits; may exceed the tokenizer's ids
	MaxContext int // longest sequence this session takes
	Threads    int // intra-op threads
	// Rows is the most tokens EvalAll takes; below 2 it is of no use. See
	// OpenOptions.Rows.
	Rows int

	WeightBytes        int64 // size of the weights on disk
	CacheBytesPerToken int64
}

// OpenOptions is how a session is opened, whatever its backend. The zero
// value works.
type OpenOptions struct {
	// Context is the longest sequence wanted; 0 means the model's own limit.
	// Memory is taken as a sequence grows, not at once.
	Context int
	// Threads used inside one operator; 0 means one per physical core.
	Threads int
	// Chunk is the number of tokens evaluated at once in a prefill; 0 means
	// the backend's choice.
	Chunk int
	// AllLogits asks for logits at every position, as perplexity needs them.
	AllLogits bool
	// Rows asks for the logits of so many tokens at once, with which
	// [Options.Lookup] checks its drafts; 0 asks for none. The session may
	// give fewer or none: see Info.Rows.
	Rows int
	// NoFitCheck loads even where weights and cache exceed the free memory.
	NoFitCheck bool
}

// Backend opens model folders of one kind.
type Backend interface {
	Name() string
	Open(ctx context.Context, folder *modeldir.Folder, o OpenOptions) (Session, error)
}
