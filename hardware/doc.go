// Package hardware says what this machine is: CPU features, cores, memory and
// accelerators; and reads its counters of energy.
//
// Nothing is kept between calls, so free memory is always the present figure.
// A kernel is chosen by a function of [Features], so that a test can run the
// plain and the fast one side by side with [Features.Without]. The package
// measures no speed. An NVIDIA card is found through files of its driver and,
// for memory, by running nvidia-smi; the driver's library is loaded for the
// energy alone. All functions are safe for concurrent use.
package hardware
