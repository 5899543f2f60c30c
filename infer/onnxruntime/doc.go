// Package onnxruntime runs the ONNX models of a folder as sessions of package
// infer: graphs in the shape that this module's converter and
// onnxruntime-genai's builder (0.18) write, with input_ids, attention_mask,
// optional position_ids, one past and one present tensor per layer for key and
// value, and logits.
//
// Three cache contracts are known, told apart by the shapes.
//
// Shared: past and present are one buffer [1, kv_heads, capacity, head_dim] that
// GroupQueryAttention writes in place and the mask's length says how much of it
// is used; the buffer grows by steps. Where the graph fixes the capacity the
// mask is as long and says by 1 and 0.
//
// Growing: present is past with the new rows appended, a new tensor each step,
// as graphs of standard operators do it.
//
// Hosted, for providers that want every shape fixed (CoreML): past is
// [1, kv_heads, P, head_dim], present [1, kv_heads, S, head_dim] the new rows
// alone, which this package copies into the cache behind the rows in use.
// input_ids and position_ids are [1, S]; a chunk of fewer tokens lies at the end
// of them, behind padding of token 0 at position 0, so that the last row is
// always the last token's. attention_mask has P + S columns, those of the cache
// first: either [1, P+S] of 1 (seen) and 0, and the graph sees to it that no
// token sees a later one; or [1, 1, S, P+S] to be added to the scores, 0 or
// -10000, with that already in it. Rows of the cache not in use are zeros or old
// rows, never NaN. P bounds the sequence. metadata.json may name a second graph
// of the same P and another S for prompts (target_specs.prefill_model).
//
// The cache lies where the provider computes (provider.memory): ids go in, the
// last position's logits come out. A provider that cannot be used is passed
// over for the next of [Chain], with a warning that says why.
//
// Every execution provider has a file of its own (cpu.go, cuda.go, tensorrt.go,
// coreml.go) and a row in provider.go. [NewBatch] makes several
// sequences of a session's graphs for the CPU. Beams and sliding-window caches
// are not done.
//
// A Backend may be used by many goroutines, a session by one at a time. The
// session owns all buffers; the logits it returns live until its next call.
package onnxruntime
