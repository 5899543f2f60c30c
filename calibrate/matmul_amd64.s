//go:build !noasm

// Written by hand: one loop of eight independent sums. No fused multiply-add:
// the Go code beside it must give the same bits.

#include "textflag.h"

// func rowPairAVX2(out, w0, w1, x *float32, cols int)
TEXT ·rowPairAVX2(SB), NOSPLIT, $0-40
	MOVQ   out+0(FP), DI
	MOVQ   w0+8(FP), R8
	MOVQ   w1+16(FP), R9
	MOVQ   x+24(FP), SI
	MOVQ   cols+32(FP), CX
	VXORPS Y0, Y0, Y0 // row 0, tokens 0-7
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4 // row 1
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

column:
	VBROADCASTSS (R8), Y8
	VBROADCASTSS (R9), Y9
	VMOVUPS      0(SI), Y10
	VMOVUPS      32(SI), Y11
	VMULPS       Y10, Y8, Y12
	VMULPS       Y10, Y9, Y13
	VMULPS       Y11, Y8, Y14
	VMULPS       Y11, Y9, Y15
	VADDPS       Y12, Y0, Y0
	VADDPS       Y13, Y4, Y4
	VADDPS       Y14, Y1, Y1
	VADDPS       Y15, Y5, Y5
	VMOVUPS      64(SI), Y10
	VMOVUPS      96(SI), Y11
	VMULPS       Y10, Y8, Y12
	VMULPS       Y10, Y9, Y13
	VMULPS       Y11, Y8, Y14
	VMULPS       Y11, Y9, Y15
	VADDPS       Y12, Y2, Y2
	VADDPS       Y13, Y6, Y6
	VADDPS       Y14, Y3, Y3
	VADDPS       Y15, Y7, Y7
	ADDQ         $4, R8
	ADDQ         $4, R9
	ADDQ         $128, SI
	DECQ         CX
	JNZ          column

	VMOVUPS Y0, 0(DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	VMOVUPS Y4, 128(DI)
	VMOVUPS Y5, 160(DI)
	VMOVUPS Y6, 192(DI)
	VMOVUPS Y7, 224(DI)
	VZEROUPPER
	RET
