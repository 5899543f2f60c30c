//go:build !noasm

// Blocks of 32 elements without a search. Each function makes up to n blocks
// and returns how many; it stops at a block that plain code must make, of which
// blocks_amd64.go tells.

#include "textflag.h"

DATA bits31<>+0(SB)/4, $0x7fffffff
GLOBL bits31<>(SB), RODATA|NOPTR, $4
DATA bit32<>+0(SB)/4, $0x80000000
GLOBL bit32<>(SB), RODATA|NOPTR, $4
DATA nibble<>+0(SB)/4, $0x0f0f0f0f
GLOBL nibble<>(SB), RODATA|NOPTR, $4
DATA unit<>+0(SB)/4, $1.0
GLOBL unit<>(SB), RODATA|NOPTR, $4
DATA infinity<>+0(SB)/4, $0x7f800000
GLOBL infinity<>(SB), RODATA|NOPTR, $4

// The largest number below 0.5: added before truncation, with the sign of the
// number, it rounds halves away from zero and nothing below a half up.
DATA belowHalf<>+0(SB)/4, $0x3effffff
GLOBL belowHalf<>(SB), RODATA|NOPTR, $4

// The order of the 4-byte parts after two packs of four vectors.
DATA unpack<>+0(SB)/4, $0
DATA unpack<>+4(SB)/4, $4
DATA unpack<>+8(SB)/4, $1
DATA unpack<>+12(SB)/4, $5
DATA unpack<>+16(SB)/4, $2
DATA unpack<>+20(SB)/4, $6
DATA unpack<>+24(SB)/4, $3
DATA unpack<>+28(SB)/4, $7
GLOBL unpack<>(SB), RODATA|NOPTR, $32

// LOAD32 loads a block into Y0 to Y3.
#define LOAD32 \
	VMOVUPS 0(SI), Y0  \
	VMOVUPS 32(SI), Y1 \
	VMOVUPS 64(SI), Y2 \
	VMOVUPS 96(SI), Y3

// ACROSS reduces the vector y, whose low half is x, to its lowest element; t is
// the low half of a free one.
#define ACROSS(op, y, x, t) \
	VEXTRACTF128 $1, y, t      \
	op           t, x, x       \
	VPERMILPS    $0x4e, x, t   \
	op           t, x, x       \
	VPERMILPS    $0xb1, x, t   \
	op           t, x, x

// INVERSE gives 1/d, 0 for d = 0, in every lane of Y4 for the scale in X4, and
// jumps where it is infinite. Y15 holds infinities.
#define INVERSE(stop) \
	VMOVSS       unit<>(SB), X5     \
	VDIVSS       X4, X5, X5         \
	VXORPS       X6, X6, X6         \
	VCMPSS       $4, X6, X4, X6     \
	VANDPS       X6, X5, X4         \
	VANDPS       bits31x<>(SB), X4, X5 \
	VUCOMISS     X15, X5            \
	JAE          stop               \
	VBROADCASTSS X4, Y4

DATA bits31x<>+0(SB)/8, $0x7fffffff7fffffff
DATA bits31x<>+8(SB)/8, $0x7fffffff7fffffff
GLOBL bits31x<>(SB), RODATA|NOPTR, $16

// CODES makes bytes, in order, in Y0 of the whole numbers in Y0 to Y3; pack is
// the second one, signed or not.
#define CODES(pack) \
	VPACKSSDW Y1, Y0, Y0  \
	VPACKSSDW Y3, Y2, Y2  \
	pack      Y2, Y0, Y0  \
	VPERMD    Y0, Y14, Y0

// HALVES stores 32 codes of Y0 as 16 bytes of halves.
#define HALVES(off) \
	VPAND        Y0, Y11, Y0       \
	VEXTRACTI128 $1, Y0, X1        \
	VPSLLW       $4, X1, X1        \
	VPOR         X1, X0, X0        \
	VMOVDQU      X0, off(DI)

// SCALED sets Y0 to Y3 to their product with Y4, plus Y13, truncated and cut to
// Y12.
#define SCALED \
	VMULPS     Y4, Y0, Y0   \
	VMULPS     Y4, Y1, Y1   \
	VMULPS     Y4, Y2, Y2   \
	VMULPS     Y4, Y3, Y3   \
	VADDPS     Y13, Y0, Y0  \
	VADDPS     Y13, Y1, Y1  \
	VADDPS     Y13, Y2, Y2  \
	VADDPS     Y13, Y3, Y3  \
	VCVTTPS2DQ Y0, Y0       \
	VCVTTPS2DQ Y1, Y1       \
	VCVTTPS2DQ Y2, Y2       \
	VCVTTPS2DQ Y3, Y3       \
	VPMINSD    Y12, Y0, Y0  \
	VPMINSD    Y12, Y1, Y1  \
	VPMINSD    Y12, Y2, Y2  \
	VPMINSD    Y12, Y3, Y3

// EXTREMES sets X5 and X4 to the least and largest element.
#define EXTREMES \
	VMINPS Y0, Y1, Y5 \
	VMINPS Y2, Y3, Y6 \
	VMAXPS Y0, Y1, Y4 \
	VMAXPS Y2, Y3, Y7 \
	VMINPS Y5, Y6, Y5 \
	VMAXPS Y4, Y7, Y4 \
	ACROSS(VMINPS, Y5, X5, X6) \
	ACROSS(VMAXPS, Y4, X4, X7)

// SIGNED makes the scale of Q4_0 and Q5_0 in X4, the element of the largest
// magnitude divided by X10, and jumps where both signs have that magnitude.
#define SIGNED(stop) \
	EXTREMES                          \
	VANDPS    bits31x<>(SB), X5, X6   \
	VANDPS    bits31x<>(SB), X4, X7   \
	VUCOMISS  X6, X7                  \
	JEQ       stop                    \
	VCMPSS    $0x1e, X7, X6, X6       \
	VBLENDVPS X6, X5, X4, X4          \
	VDIVSS    X10, X4, X4

// AFFINE makes the scale of Q4_1 and Q5_1 in X4, the least element in every
// lane of Y8, and takes it off; X10 is the number of steps. It jumps where that
// element is a zero, whose sign is that of the first zero.
#define AFFINE(stop) \
	EXTREMES                     \
	VXORPS       X6, X6, X6      \
	VUCOMISS     X6, X5          \
	JEQ          stop            \
	VSUBSS       X5, X4, X4      \
	VDIVSS       X10, X4, X4     \
	VBROADCASTSS X5, Y8          \
	VSUBPS       Y8, Y0, Y0      \
	VSUBPS       Y8, Y1, Y1      \
	VSUBPS       Y8, Y2, Y2      \
	VSUBPS       Y8, Y3, Y3

// func q8_0AVX2(dst *byte, x *float32, n int) int
TEXT ·q8_0AVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS infinity<>(SB), Y15
	VMOVDQU      unpack<>(SB), Y14
	VBROADCASTSS bits31<>(SB), Y13
	VBROADCASTSS bit32<>(SB), Y12
	VBROADCASTSS belowHalf<>(SB), Y11
	MOVL         $0x42fe0000, AX // 127
	VMOVD        AX, X10
	TESTQ        CX, CX
	JZ           q8_0Done

q8_0Loop:
	LOAD32
	VANDPS    Y0, Y13, Y4
	VANDPS    Y1, Y13, Y5
	VANDPS    Y2, Y13, Y6
	VANDPS    Y3, Y13, Y7
	VMAXPS    Y5, Y4, Y4
	VMAXPS    Y7, Y6, Y6
	VMAXPS    Y6, Y4, Y4
	ACROSS(VMAXPS, Y4, X4, X5)
	VDIVSS    X10, X4, X4
	VCVTPS2PH $0, X4, X9
	INVERSE(q8_0Done)
	VMULPS    Y4, Y0, Y0
	VMULPS    Y4, Y1, Y1
	VMULPS    Y4, Y2, Y2
	VMULPS    Y4, Y3, Y3
	VANDPS    Y0, Y12, Y5
	VANDPS    Y1, Y12, Y6
	VANDPS    Y2, Y12, Y7
	VANDPS    Y3, Y12, Y8
	VORPS     Y11, Y5, Y5
	VORPS     Y11, Y6, Y6
	VORPS     Y11, Y7, Y7
	VORPS     Y11, Y8, Y8
	VADDPS    Y5, Y0, Y0
	VADDPS    Y6, Y1, Y1
	VADDPS    Y7, Y2, Y2
	VADDPS    Y8, Y3, Y3
	VCVTTPS2DQ Y0, Y0
	VCVTTPS2DQ Y1, Y1
	VCVTTPS2DQ Y2, Y2
	VCVTTPS2DQ Y3, Y3
	CODES(VPACKSSWB)
	VPEXTRW   $0, X9, AX
	MOVW      AX, (DI)
	VMOVDQU   Y0, 2(DI)
	ADDQ      $128, SI
	ADDQ      $34, DI
	DECQ      CX
	JNZ       q8_0Loop

q8_0Done:
	MOVQ n+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// func q4_0AVX2(dst *byte, x *float32, n int) int
TEXT ·q4_0AVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS infinity<>(SB), Y15
	VMOVDQU      unpack<>(SB), Y14
	MOVL         $0x41080000, AX // 8.5
	VMOVD        AX, X13
	VBROADCASTSS X13, Y13
	MOVL         $15, AX
	VMOVD        AX, X12
	VPBROADCASTD X12, Y12
	VBROADCASTSS nibble<>(SB), Y11
	MOVL         $0xc1000000, AX // -8
	VMOVD        AX, X10
	TESTQ        CX, CX
	JZ           q4_0Done

q4_0Loop:
	LOAD32
	SIGNED(q4_0Done)
	VCVTPS2PH $0, X4, X9
	INVERSE(q4_0Done)
	SCALED
	CODES(VPACKUSWB)
	HALVES(2)
	VPEXTRW   $0, X9, AX
	MOVW      AX, (DI)
	ADDQ      $128, SI
	ADDQ      $18, DI
	DECQ      CX
	JNZ       q4_0Loop

q4_0Done:
	MOVQ n+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// func q5_0AVX2(dst *byte, x *float32, n int) int
TEXT ·q5_0AVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS infinity<>(SB), Y15
	VMOVDQU      unpack<>(SB), Y14
	MOVL         $0x41840000, AX // 16.5
	VMOVD        AX, X13
	VBROADCASTSS X13, Y13
	MOVL         $31, AX
	VMOVD        AX, X12
	VPBROADCASTD X12, Y12
	VBROADCASTSS nibble<>(SB), Y11
	MOVL         $0xc1800000, AX // -16
	VMOVD        AX, X10
	TESTQ        CX, CX
	JZ           q5_0Done

q5_0Loop:
	LOAD32
	SIGNED(q5_0Done)
	VCVTPS2PH $0, X4, X9
	INVERSE(q5_0Done)
	SCALED
	CODES(VPACKUSWB)
	VPSLLW    $3, Y0, Y1 // the fifth bits on top
	VPMOVMSKB Y1, AX
	MOVL      AX, 2(DI)
	HALVES(6)
	VPEXTRW   $0, X9, AX
	MOVW      AX, (DI)
	ADDQ      $128, SI
	ADDQ      $22, DI
	DECQ      CX
	JNZ       q5_0Loop

q5_0Done:
	MOVQ n+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// func q4_1AVX2(dst *byte, x *float32, n int) int
TEXT ·q4_1AVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS infinity<>(SB), Y15
	VMOVDQU      unpack<>(SB), Y14
	MOVL         $0x3f000000, AX // 0.5
	VMOVD        AX, X13
	VBROADCASTSS X13, Y13
	MOVL         $15, AX
	VMOVD        AX, X12
	VPBROADCASTD X12, Y12
	VBROADCASTSS nibble<>(SB), Y11
	MOVL         $0x41700000, AX // 15
	VMOVD        AX, X10
	TESTQ        CX, CX
	JZ           q4_1Done

q4_1Loop:
	LOAD32
	AFFINE(q4_1Done)
	VUNPCKLPS X8, X4, X9
	VCVTPS2PH $0, X9, X9
	INVERSE(q4_1Done)
	SCALED
	CODES(VPACKUSWB)
	HALVES(4)
	VMOVD     X9, (DI)
	ADDQ      $128, SI
	ADDQ      $20, DI
	DECQ      CX
	JNZ       q4_1Loop

q4_1Done:
	MOVQ n+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// func q5_1AVX2(dst *byte, x *float32, n int) int
TEXT ·q5_1AVX2(SB), NOSPLIT, $0-32
	MOVQ         dst+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         n+16(FP), CX
	VBROADCASTSS infinity<>(SB), Y15
	VMOVDQU      unpack<>(SB), Y14
	MOVL         $0x3f000000, AX // 0.5
	VMOVD        AX, X13
	VBROADCASTSS X13, Y13
	MOVL         $31, AX
	VMOVD        AX, X12
	VPBROADCASTD X12, Y12
	VBROADCASTSS nibble<>(SB), Y11
	MOVL         $0x41f80000, AX // 31
	VMOVD        AX, X10
	TESTQ        CX, CX
	JZ           q5_1Done

q5_1Loop:
	LOAD32
	AFFINE(q5_1Done)
	VUNPCKLPS X8, X4, X9
	VCVTPS2PH $0, X9, X9
	INVERSE(q5_1Done)
	SCALED
	CODES(VPACKUSWB)
	VPSLLW    $3, Y0, Y1
	VPMOVMSKB Y1, AX
	MOVL      AX, 4(DI)
	HALVES(8)
	VMOVD     X9, (DI)
	ADDQ      $128, SI
	ADDQ      $24, DI
	DECQ      CX
	JNZ       q5_1Loop

q5_1Done:
	MOVQ n+16(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET
