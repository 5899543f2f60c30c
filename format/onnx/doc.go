// Package onnx builds, writes, reads, checks and edits ONNX models: the
// protobuf container, its external data and the types and shapes inside. It
// knows operators, but no language model and no execution provider.
//
// Specification: docs/IR.md and onnx.proto of ONNX 1.23 (IR version up to 14),
// operator sets ai.onnx 21 to 24, and the com.microsoft operators of ONNX
// Runtime 1.32 that this module writes.
//
// A model is plain data: [Model], [Graph], [Node], [Initializer]. The same
// structs serve the writer (build them with [NewGraph] and its methods, then
// [Model.Encode]), the reader ([Open], [Decode]) and passes from graph to
// graph (edit the slices; [Graph.Index] finds producers and consumers).
// [Layout] gives every external tensor its offset before a byte is written;
// the bytes themselves are written by the caller. [Check] says what is wrong
// with a model, [Infer] what types and shapes its values have.
//
// Not done here: functions, training info, sparse initializers, and values
// that are not tensors (sequences, maps, optionals). Decode names them in
// [Model.Dropped]; Encode refuses such a model. Metadata of single nodes, values
// and tensors, annotations and device placements are not kept.
//
// Models are not safe for concurrent modification; reading one from many
// goroutines is fine. Decode keeps no reference to its input. Encode copies
// inline data. A [File] may be read from many goroutines.
package onnx
