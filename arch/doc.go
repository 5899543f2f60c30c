// Package arch describes model architectures: one [Spec] for each checkpoint,
// read from its Hugging Face config, says the sizes, the constants of the
// forward pass, and which weights there are and what each is for.
//
// One description feeds every planner (ONNX, GGUF, MLX) and the reference
// forward pass. A config value that the forward pass would have to honour but
// does not is a [tensor.UnsupportedError] that names it, never a silently
// wrong model. Sources: the configuration and modeling files of transformers
// 4.57 and 5.x for each architecture.
//
// The package reads no weights and knows no file format. A Spec is immutable
// after [Parse] and safe for concurrent use.
package arch
