//go:build !noasm

#include "textflag.h"

// func encodeF16AVX(dst *byte, src *float32, n int) (odd uint32)
//
// Rounds n float32, n a multiple of 8, to float16 (VCVTPS2PH, half to even).
// odd is not 0 when a value is beyond the range of float16 or rounds to zero
// without being zero; the caller then counts.
TEXT ·encodeF16AVX(SB), NOSPLIT, $0-28
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVL $0x7fffffff, AX
	VMOVD AX, X7
	VPBROADCASTD X7, Y7 // mask of the magnitude
	MOVL $0x477fefff, AX
	VMOVD AX, X8
	VPBROADCASTD X8, Y8 // last magnitude below 65520
	MOVL $0x33000001, AX
	VMOVD AX, X9
	VPBROADCASTD X9, Y9 // first magnitude above 2^-25
	VPXOR Y6, Y6, Y6    // zero
	VPXOR Y5, Y5, Y5    // odd lanes
loop:
	CMPQ CX, $8
	JL   done
	VMOVUPS (SI), Y0
	VCVTPS2PH $0, Y0, X1
	VMOVUPS X1, (DI)
	VPAND Y7, Y0, Y2
	VPCMPGTD Y8, Y2, Y3 // too large
	VPOR Y3, Y5, Y5
	VPCMPGTD Y2, Y9, Y3 // too small
	VPCMPGTD Y6, Y2, Y4 // not zero
	VPAND Y4, Y3, Y3
	VPOR Y3, Y5, Y5
	ADDQ $32, SI
	ADDQ $16, DI
	SUBQ $8, CX
	JMP  loop
done:
	VMOVMSKPS Y5, AX
	MOVL AX, odd+24(FP)
	VZEROUPPER
	RET

// func decodeF16AVX(dst *float32, src *byte, n int)
TEXT ·decodeF16AVX(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
loop16:
	CMPQ CX, $8
	JL   done16
	VCVTPH2PS (SI), Y0
	VMOVUPS Y0, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JMP  loop16
done16:
	VZEROUPPER
	RET

// func decodeBF16AVX(dst *float32, src *byte, n int)
TEXT ·decodeBF16AVX(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
loopb:
	CMPQ CX, $8
	JL   doneb
	VPMOVZXWD (SI), Y0
	VPSLLD $16, Y0, Y0
	VMOVDQU Y0, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JMP  loopb
doneb:
	VZEROUPPER
	RET
