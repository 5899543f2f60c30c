// Package tensor holds what every codec and quantizer shares: element types,
// shapes, conversion between float32 and the half-precision types, and the
// named tensor whose elements are read lazily.
//
// It knows no file format and no model. All functions are safe for concurrent
// use; a [Tensor] is safe for concurrent reads when its [Reader] is, which all
// readers of this module are.
package tensor
