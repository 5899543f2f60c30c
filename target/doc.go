// Package target holds what is known of execution providers as data: which
// operators, types, shapes and quantized forms each takes at a release, which
// options it knows and what they do, and what hardware profiles users name.
//
// [Find] gives a [Target], [Target.Place] says node by node where a graph would
// land, [Target.CheckOptions] judges provider options before they are handed
// over, [FindProfile] gives a [Profile] and [DetectProfile] guesses the one of
// a machine, [ParseHints] reads optimization hints.
//
// The data lie in data/: kernels/ is what ONNX Runtime's own registries list
// (made by testdata/kernels.py), ep/ one file an execution provider, profiles/
// one file a machine; each group of entries cites the list and release it is
// taken from. To add a release, an operator or a machine, edit a file there.
//
// A placement is a prediction from lists, not a run on the device. How far each
// is proven: CPU by sessions of the pinned library, CUDA by recorded sessions of
// onnxruntime-gpu without a GPU (they decide placement and run nothing), CoreML by
// the operator builders in the macOS library and by ONNX Runtime's usability
// checker, TensorRT by published lists alone. Nothing here loads a library, and
// bodies of If, Loop and Scan are not looked into. All values are fresh copies;
// functions may be called concurrently.
package target

//go:generate go test -run TestProfilePage -update .
