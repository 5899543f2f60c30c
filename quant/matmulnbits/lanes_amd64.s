//go:build !noasm

// Written by hand: short loops over [element][lane], with no scheduling worth
// a generator. Field offsets come from go_asm.h. No fused multiply-add: the Go
// code beside it must give the same bits.

#include "go_asm.h"
#include "textflag.h"

// The bits of |float32|.
DATA magnitude<>+0(SB)/4, $0x7fffffff
GLOBL magnitude<>(SB), RODATA|NOPTR, $4

DATA half<>+0(SB)/4, $0.5
GLOBL half<>(SB), RODATA|NOPTR, $4

DATA one<>+0(SB)/4, $1.0
GLOBL one<>(SB), RODATA|NOPTR, $4

// ELEMENT adds element off/32 of every lane to A (Y8) and B (Y9).
#define ELEMENT(off, q, t) \
	VMULPS   (lanes_x+off)(SI), Y0, q \
	VMAXPS   Y2, q, q                 \
	VMINPS   Y3, q, q                 \
	VROUNDPS $0, q, q                 \
	VMULPS   (lanes_wx+off)(SI), q, t \
	VMULPS   q, q, q                  \
	VMULPS   (lanes_w+off)(SI), q, q  \
	VADDPS   t, Y8, Y8                \
	VADDPS   q, Y9, Y9

// LOADBASE is the start of both rounding kernels: inv in Y0, zero in Y1, scale
// in Y4, top in Y15, the magnitude mask in Y10, 0 in Y8 and Y9, the codes of a
// word in BX, the shifts of a word and of a code in X13 and X11.
#define LOADBASE \
	MOVQ         l+0(FP), DI              \
	MOVQ         words+8(FP), CX          \
	MOVQ         bits+16(FP), AX          \
	VBROADCASTSS top+24(FP), Y15          \
	VBROADCASTSS magnitude<>(SB), Y10     \
	VMOVUPS      lanes_inv(DI), Y0        \
	VMOVUPS      lanes_zero(DI), Y1       \
	VMOVUPS      lanes_bestScale(DI), Y4  \
	VXORPS       Y8, Y8, Y8               \
	VXORPS       Y9, Y9, Y9               \
	MOVQ         AX, X13                  \
	MOVL         $32, R9                  \
	SUBQ         AX, R9                   \
	MOVQ         R9, X11                  \
	MOVQ         AX, R12                  \
	MOVL         $32, AX                  \
	XORL         DX, DX                   \
	DIVL         R12                      \
	MOVQ         AX, BX                   \
	MOVQ         DI, SI                   \
	MOVQ         DI, R8

// MEASURE counts the error of the weight Y6 read back as Y5 times the scale.
#define MEASURE \
	VMULPS Y4, Y5, Y7  \
	VSUBPS Y7, Y6, Y6  \
	VMULPS Y6, Y6, Y7  \
	VADDPS Y7, Y8, Y8  \
	VANDPS Y6, Y10, Y6 \
	VMAXPS Y9, Y6, Y9

// PACK appends the code Y5, a float, to the word Y12.
#define PACK \
	VCVTTPS2DQ Y5, Y5      \
	VPSLLD     X11, Y5, Y5 \
	VPSRLD     X13, Y12, Y12 \
	VPOR       Y5, Y12, Y12

// func transposeAVX2(dst *[maxBlock][width]float32, source *[width][]float32, block int)
TEXT ·transposeAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ source+8(FP), SI
	MOVQ block+16(FP), CX
	MOVQ 0(SI), R8             // the base of each slice; a header has 24 bytes
	MOVQ 24(SI), R9
	MOVQ 48(SI), R10
	MOVQ 72(SI), R11
	MOVQ 96(SI), R12
	MOVQ 120(SI), R13
	MOVQ 144(SI), AX
	MOVQ 168(SI), BX
	XORQ DX, DX
	SHRQ $3, CX

transposeLoop: // 8 elements of 8 blocks
	VMOVUPS    (R8)(DX*1), Y0
	VMOVUPS    (R9)(DX*1), Y1
	VMOVUPS    (R10)(DX*1), Y2
	VMOVUPS    (R11)(DX*1), Y3
	VMOVUPS    (R12)(DX*1), Y4
	VMOVUPS    (R13)(DX*1), Y5
	VMOVUPS    (AX)(DX*1), Y6
	VMOVUPS    (BX)(DX*1), Y7
	VUNPCKLPS  Y1, Y0, Y8      // a0 b0 a1 b1 | a4 b4 a5 b5
	VUNPCKHPS  Y1, Y0, Y9      // a2 b2 a3 b3 | ...
	VUNPCKLPS  Y3, Y2, Y10
	VUNPCKHPS  Y3, Y2, Y11
	VUNPCKLPS  Y5, Y4, Y12
	VUNPCKHPS  Y5, Y4, Y13
	VUNPCKLPS  Y7, Y6, Y14
	VUNPCKHPS  Y7, Y6, Y15
	VSHUFPS    $0x44, Y10, Y8, Y0  // a0 b0 c0 d0 | a4 b4 c4 d4
	VSHUFPS    $0xee, Y10, Y8, Y1  // a1 ..
	VSHUFPS    $0x44, Y11, Y9, Y2  // a2 ..
	VSHUFPS    $0xee, Y11, Y9, Y3  // a3 ..
	VSHUFPS    $0x44, Y14, Y12, Y4 // e0 f0 g0 h0 | ...
	VSHUFPS    $0xee, Y14, Y12, Y5
	VSHUFPS    $0x44, Y15, Y13, Y6
	VSHUFPS    $0xee, Y15, Y13, Y7
	VPERM2F128 $0x20, Y4, Y0, Y8
	VPERM2F128 $0x20, Y5, Y1, Y9
	VPERM2F128 $0x20, Y6, Y2, Y10
	VPERM2F128 $0x20, Y7, Y3, Y11
	VPERM2F128 $0x31, Y4, Y0, Y12
	VPERM2F128 $0x31, Y5, Y1, Y13
	VPERM2F128 $0x31, Y6, Y2, Y14
	VPERM2F128 $0x31, Y7, Y3, Y15
	VMOVUPS    Y8, 0(DI)
	VMOVUPS    Y9, 32(DI)
	VMOVUPS    Y10, 64(DI)
	VMOVUPS    Y11, 96(DI)
	VMOVUPS    Y12, 128(DI)
	VMOVUPS    Y13, 160(DI)
	VMOVUPS    Y14, 192(DI)
	VMOVUPS    Y15, 224(DI)
	ADDQ       $256, DI
	ADDQ       $32, DX
	DECQ       CX
	JNZ        transposeLoop
	VZEROUPPER
	RET

// func prepareAVX2(l *lanes, block int)
TEXT ·prepareAVX2(SB), NOSPLIT, $0-16
	MOVQ   l+0(FP), DI
	MOVQ   block+8(FP), CX
	MOVQ   DI, SI
	VXORPS Y0, Y0, Y0          // lo
	VXORPS Y1, Y1, Y1          // hi
	VXORPS Y2, Y2, Y2          // energy

prepareLoop:
	VMOVUPS lanes_x(SI), Y3
	VMULPS  lanes_w(SI), Y3, Y4
	VMOVUPS Y4, lanes_wx(SI)
	VMINPS  Y0, Y3, Y0         // a NaN leaves lo as it is
	VMAXPS  Y1, Y3, Y1
	VMULPS  Y3, Y3, Y3
	VADDPS  Y3, Y2, Y2
	ADDQ    $32, SI
	DECQ    CX
	JNZ     prepareLoop
	VMOVUPS Y0, lanes_lo(DI)
	VMOVUPS Y1, lanes_hi(DI)
	VMOVUPS Y2, lanes_energy(DI)
	VZEROUPPER
	RET

// func tryAVX2(l *lanes, steps *step, n, block int, top float32, half bool)
TEXT ·tryAVX2(SB), NOSPLIT, $0-37
	MOVQ         l+0(FP), DI
	MOVQ         steps+8(FP), R8
	MOVQ         n+16(FP), R9
	MOVQ         block+24(FP), R10
	VBROADCASTSS top+32(FP), Y15
	MOVBLZX      half+36(FP), R11
	VXORPS       Y14, Y14, Y14
	VMOVUPS      lanes_gain(DI), Y13
	VMOVUPS      lanes_bestScale(DI), Y12
	VMOVUPS      lanes_bestZero(DI), Y11
	SHRQ         $2, R10

tryStep:
	VBROADCASTSS step_shrink(R8), Y0
	VMULPS       lanes_inv(DI), Y0, Y0  // inv
	VBROADCASTSS step_shift(R8), Y1
	VADDPS       lanes_zero(DI), Y1, Y1
	VMAXPS       Y14, Y1, Y1
	VMINPS       Y15, Y1, Y1            // zero point
	VSUBPS       Y1, Y14, Y2            // -zero
	VSUBPS       Y1, Y15, Y3            // top - zero
	VXORPS       Y8, Y8, Y8
	VXORPS       Y9, Y9, Y9
	MOVQ         DI, SI
	MOVQ         R10, CX

tryElements:
	ELEMENT(0, Y4, Y5)
	ELEMENT(32, Y6, Y7)
	ELEMENT(64, Y4, Y5)
	ELEMENT(96, Y6, Y7)
	ADDQ $128, SI
	DECQ CX
	JNZ  tryElements

	VDIVPS    Y9, Y8, Y4        // scale = A/B
	TESTL     R11, R11
	JZ        tryStored
	VCVTPS2PH $0, Y4, X4
	VCVTPH2PS X4, Y4

tryStored:
	VADDPS    Y8, Y8, Y5
	VMULPS    Y9, Y4, Y6
	VSUBPS    Y6, Y5, Y5
	VMULPS    Y5, Y4, Y5        // gain = scale (2A - scale B)
	VCMPPS    $0x1e, Y14, Y9, Y6 // B > 0
	VCMPPS    $0x1e, Y13, Y5, Y7 // gain > best
	VANDPS    Y6, Y7, Y7
	VBLENDVPS Y7, Y5, Y13, Y13
	VBLENDVPS Y7, Y4, Y12, Y12
	VBLENDVPS Y7, Y1, Y11, Y11
	ADDQ      $step__size, R8
	DECQ      R9
	JNZ       tryStep

	VMOVUPS Y13, lanes_gain(DI)
	VMOVUPS Y12, lanes_bestScale(DI)
	VMOVUPS Y11, lanes_bestZero(DI)
	VZEROUPPER
	RET

// func nearestAVX2(l *lanes, words, bits int, top float32)
TEXT ·nearestAVX2(SB), NOSPLIT, $0-28
	LOADBASE
	VSUBPS Y1, Y8, Y2  // -zero
	VSUBPS Y1, Y15, Y3 // top - zero

nearestWord:
	VPXOR Y12, Y12, Y12
	MOVQ  BX, AX

nearestElement:
	VMOVUPS  lanes_x(SI), Y6
	VMULPS   Y6, Y0, Y5
	VMAXPS   Y2, Y5, Y5 // a NaN becomes the low end
	VMINPS   Y3, Y5, Y5
	VROUNDPS $0, Y5, Y5
	MEASURE
	VADDPS   Y1, Y5, Y5
	PACK
	ADDQ     $32, SI
	DECQ     AX
	JNZ      nearestElement
	VMOVDQU  Y12, lanes_words(R8)
	ADDQ     $32, R8
	DECQ     CX
	JNZ      nearestWord

	VMOVUPS Y8, lanes_err(DI)
	VMOVUPS Y9, lanes_worst(DI)
	VZEROUPPER
	RET

// func nearestAwayAVX2(l *lanes, words, bits int, top float32)
TEXT ·nearestAwayAVX2(SB), NOSPLIT, $0-28
	LOADBASE
	VBROADCASTSS half<>(SB), Y2
	VBROADCASTSS one<>(SB), Y3
	VXORPS       Y14, Y14, Y14

awayWord:
	VPXOR Y12, Y12, Y12
	MOVQ  BX, AX

awayElement:
	VMOVUPS    lanes_x(SI), Y6
	VMULPS     Y6, Y0, Y5
	VADDPS     Y1, Y5, Y5
	VMAXPS     Y14, Y5, Y5       // a NaN becomes 0
	VMINPS     Y15, Y5, Y5
	VROUNDPS   $1, Y5, Y7        // floor
	VSUBPS     Y7, Y5, Y5
	VCMPPS     $0x0d, Y2, Y5, Y5 // fraction >= 1/2
	VANDPS     Y3, Y5, Y5
	VADDPS     Y7, Y5, Y5        // code
	VCVTTPS2DQ Y5, Y7
	VPSLLD     X11, Y7, Y7
	VPSRLD     X13, Y12, Y12
	VPOR       Y7, Y12, Y12
	VSUBPS     Y1, Y5, Y5
	MEASURE
	ADDQ       $32, SI
	DECQ       AX
	JNZ        awayElement
	VMOVDQU    Y12, lanes_words(R8)
	ADDQ       $32, R8
	DECQ       CX
	JNZ        awayWord

	VMOVUPS Y8, lanes_err(DI)
	VMOVUPS Y9, lanes_worst(DI)
	VZEROUPPER
	RET
