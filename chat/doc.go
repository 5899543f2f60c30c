// Package chat turns messages into a prompt, the prompt into an answer, and
// the answer into a message: the model's chat template, tools, reasoning.
//
// The prompt is what Hugging Face's apply_chat_template gives for the same
// messages, encoded without the tokenizer's own beginning-of-text token, which
// templates write themselves. In one thing it is stricter: text of a message
// that spells a control token stays text (see encode.go).
//
// Between the turns of a conversation the session's KV cache is kept: only
// what differs from the sequence already evaluated is evaluated (see
// infer.Generate).
//
// A [Chat] belongs to one goroutine at a time. It owns nothing: the caller
// closes the session.
package chat
