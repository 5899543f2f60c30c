// Package infer turns a session that yields logits into text: prefill with
// reuse of what the cache already holds, decode, samplers, stop rules.
//
// A [Session] is one sequence with its KV cache; infer/onnxruntime makes
// them. [Generate] drives it. The samplers follow Hugging Face's order and
// meaning of the options (see [SamplerOptions]), as generation_config.json is
// written for it. [GenerateBatch] drives several
// sequences of a [Batch]. There is no beam search here, and no chat:
// messages become prompts in package chat.
//
// A session, a sampler and a running generation belong to one goroutine at a
// time; different sessions are independent. Slices of logits belong to the
// session and are valid until its next call.
package infer
