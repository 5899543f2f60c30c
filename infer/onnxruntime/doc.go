// Package onnxruntime runs the ONNX models of a folder as sessions of package
// infer: graphs in the shape that this module's converter and
// onnxruntime-genai's builder (0.18) write, with input_ids, attention_mask,
// optional position_ids, one past and one present tensor per layer for key and
// value, and logits.
//
// Two cache contracts are known. Shared: past and present are one buffer
// [1, kv_heads, capacity, head_dim] that GroupQueryAttention writes in place
// and the mask's length says how much of it is used; the buffer grows by
// steps. Growing: present is past with the new rows appended, a new tensor
// each step, as graphs of standard operators do it.
//
// Every execution provider has a file of its own (cpu.go) and a row in
// provider.go. Batches, beams and sliding-window caches are not done.
//
// A Backend may be used by many goroutines, a session by one at a time. The
// session owns all buffers; the logits it returns live until its next call.
package onnxruntime
