// Package calibrate finds out which input channels of a model's linear layers
// matter, so that quantizers can spend their precision there.
//
// [Probe] needs no text: it runs [Tokens] token ids drawn at random through the
// float model, one layer after the other, and keeps the mean square of every
// channel of every linear layer's input. What dominates these are properties of
// the weights, such as norm gains and the channels that carry huge activations
// for any input, so 32 random ids serve nearly as well as thousands of tokens
// of text: on a permuted SmolLM2-135M with 4-bit blocks of 32 (k and v in 8
// bits) the KL divergence falls from 0.184 to 0.120-0.127, with 2048 tokens of
// text to 0.116.
//
// It writes nothing and quantizes nothing. Memory is one chunk of rows for each
// worker and the activations of the probe; every weight of the layers is read
// once. Results are rounded so that they do not depend on the machine or on the
// number of workers.
package calibrate
