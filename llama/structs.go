//lint:file-ignore U1000 every field of the C structs has its place, used here or not

package llama

import "unsafe"

// modelParams is struct llama_model_params. Functions and pointers are
// addresses.
type modelParams struct {
	devices             unsafe.Pointer // ggml_backend_dev_t[], ends with nil
	tensorBuftOverrides unsafe.Pointer
	nGPULayers          int32 // negative: all
	splitMode           int32
	loadMode            int32 // [LoadMode]
	lazyMode            int32
	mainGPU             int32
	tensorSplit         unsafe.Pointer // float[llama_max_devices()]
	progressCallback    uintptr        // bool(float, void *): false ends the loading
	progressUserData    unsafe.Pointer
	kvOverrides         unsafe.Pointer
	vocabOnly           bool
	checkTensors        bool
	useExtraBufts       bool
	noHost              bool
	noAlloc             bool
	loadMTP             bool
}

// contextParams is struct llama_context_params.
type contextParams struct {
	nCtx, nBatch, nUbatch, nSeqMax, nRsSeq uint32
	// nOutputsMax bounds the rows of logits of one decode; 0 means nBatch. More
	// are a failed assertion in the library, not an error.
	nOutputsMax, nOutputsMaxPerSeq                                      uint32
	nThreads, nThreadsBatch                                             int32
	ctxType, ropeScalingType, poolingType, attentionType, flashAttnType int32
	ropeFreqBase, ropeFreqScale                                         float32
	yarnExtFactor, yarnAttnFactor, yarnBetaFast, yarnBetaSlow           float32
	yarnOrigCtx                                                         uint32
	defragThold                                                         float32
	cbEval                                                              uintptr
	cbEvalUserData                                                      unsafe.Pointer
	typeK, typeV                                                        int32
	abortCallback                                                       uintptr
	abortCallbackData                                                   unsafe.Pointer
	embeddings, offloadKQV, noPerf, opOffload, swaFull, kvUnified       bool
	samplers                                                            unsafe.Pointer
	nSamplers                                                           uintptr
	ctxOther                                                            unsafe.Pointer
}

// batch is struct llama_batch.
type batch struct {
	nTokens int32
	token   unsafe.Pointer // int32[n]
	embd    unsafe.Pointer // float[n*n_embd], or nil
	pos     unsafe.Pointer // int32[n]
	nSeqID  unsafe.Pointer // int32[n]
	seqID   unsafe.Pointer // int32 *[n]
	logits  unsafe.Pointer // int8[n]: whether the token's logits are wanted
}

// defaults are the values of v0.5.0 that tell whether the fields lie where
// this package thinks.
func (m *modelParams) isDefault() bool {
	return *m == modelParams{nGPULayers: -1, splitMode: 1, loadMode: -1, lazyMode: 1, useExtraBufts: true}
}

func (c *contextParams) isDefault() bool {
	return *c == contextParams{
		nCtx: 512, nBatch: 2048, nUbatch: 512, nSeqMax: 1, nOutputsMaxPerSeq: 1, nThreads: 4, nThreadsBatch: 4,
		ropeScalingType: -1, poolingType: -1, attentionType: -1, flashAttnType: -1,
		yarnExtFactor: -1, yarnAttnFactor: -1, yarnBetaFast: -1, yarnBetaSlow: -1, defragThold: -1,
		typeK: int32(F16), typeV: int32(F16), offloadKQV: true, noPerf: true, opOffload: true, swaFull: true,
	}
}
