//go:build !noasm

// Written by hand: short loops over [element][lane]. Field offsets come from
// go_asm.h. No fused multiply-add: ggml's library has none, and the Go code
// beside it must give the same bits. Minima and maxima keep their second
// operand (the first in Go's order) where both are equal, as ggml's
// comparisons do.

#include "go_asm.h"
#include "textflag.h"

// The bits of |float32|.
DATA magnitude<>+0(SB)/4, $0x7fffffff
GLOBL magnitude<>(SB), RODATA|NOPTR, $4

DATA sign<>+0(SB)/4, $0x80000000
GLOBL sign<>(SB), RODATA|NOPTR, $4

// The exponent of infinities and NaN.
DATA exponent<>+0(SB)/4, $0x7f800000
GLOBL exponent<>(SB), RODATA|NOPTR, $4

DATA one<>+0(SB)/4, $1.0
GLOBL one<>(SB), RODATA|NOPTR, $4

// Up to here nearest does not wrap, with room to spare.
DATA range<>+0(SB)/4, $4000000.0
GLOBL range<>(SB), RODATA|NOPTR, $4

// See tiny.
DATA tiny<>+0(SB)/4, $1e-15
GLOBL tiny<>(SB), RODATA|NOPTR, $4

// The numbers of nearest.
DATA magic<>+0(SB)/4, $12582912.0
GLOBL magic<>(SB), RODATA|NOPTR, $4
DATA mantissa<>+0(SB)/4, $0x7fffff
GLOBL mantissa<>(SB), RODATA|NOPTR, $4
DATA middle<>+0(SB)/4, $0x400000
GLOBL middle<>(SB), RODATA|NOPTR, $4

// The ends of Q3_K's codes.
DATA four<>+0(SB)/4, $-4
GLOBL four<>(SB), RODATA|NOPTR, $4
DATA three<>+0(SB)/4, $3
GLOBL three<>(SB), RODATA|NOPTR, $4
DATA fourFloat<>+0(SB)/4, $-4.0
GLOBL fourFloat<>(SB), RODATA|NOPTR, $4

// func finiteAVX2(x *float32, n int) bool
TEXT ·finiteAVX2(SB), NOSPLIT, $0-17
	MOVQ         x+0(FP), SI
	MOVQ         n+8(FP), CX
	SHRQ         $5, CX
	VBROADCASTSS exponent<>(SB), Y15
	VPXOR        Y0, Y0, Y0
	VPXOR        Y1, Y1, Y1

finiteLoop:
	VPAND    0(SI), Y15, Y2
	VPAND    32(SI), Y15, Y3
	VPAND    64(SI), Y15, Y4
	VPAND    96(SI), Y15, Y5
	VPCMPEQD Y2, Y15, Y2
	VPCMPEQD Y3, Y15, Y3
	VPCMPEQD Y4, Y15, Y4
	VPCMPEQD Y5, Y15, Y5
	VPOR     Y2, Y3, Y2
	VPOR     Y4, Y5, Y4
	VPOR     Y2, Y0, Y0
	VPOR     Y4, Y1, Y1
	ADDQ     $128, SI
	DECQ     CX
	JNZ      finiteLoop
	VPOR     Y1, Y0, Y0
	VPTEST   Y0, Y0
	SETEQ    ret+16(FP)
	VZEROUPPER
	RET

// func spreadAVX2(dst *[maxGroup][width]float32, x *float32, n int)
TEXT ·spreadAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), R8
	MOVQ n+16(FP), CX
	LEAQ (R8)(CX*4), R9
	LEAQ (R9)(CX*4), R10
	LEAQ (R10)(CX*4), R11
	LEAQ (R11)(CX*4), R12
	LEAQ (R12)(CX*4), R13
	LEAQ (R13)(CX*4), AX
	LEAQ (AX)(CX*4), BX
	XORQ DX, DX
	SHRQ $3, CX

spreadLoop: // 8 elements of 8 groups
	VMOVUPS    (R8)(DX*1), Y0
	VMOVUPS    (R9)(DX*1), Y1
	VMOVUPS    (R10)(DX*1), Y2
	VMOVUPS    (R11)(DX*1), Y3
	VMOVUPS    (R12)(DX*1), Y4
	VMOVUPS    (R13)(DX*1), Y5
	VMOVUPS    (AX)(DX*1), Y6
	VMOVUPS    (BX)(DX*1), Y7
	VUNPCKLPS  Y1, Y0, Y8          // a0 b0 a1 b1 | a4 b4 a5 b5
	VUNPCKHPS  Y1, Y0, Y9          // a2 b2 a3 b3 | ...
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
	JNZ        spreadLoop
	VZEROUPPER
	RET

// func weighMeanAVX2(l *lanes, n int, count float32)
TEXT ·weighMeanAVX2(SB), NOSPLIT, $0-20
	MOVQ         l+0(FP), SI
	MOVQ         n+8(FP), CX
	VBROADCASTSS count+16(FP), Y1
	VBROADCASTSS magnitude<>(SB), Y15
	MOVQ         SI, DI
	MOVQ         CX, DX
	VXORPS       Y0, Y0, Y0

meanSum:
	VMOVUPS lanes_x(SI), Y2
	VMULPS  Y2, Y2, Y2
	VADDPS  Y2, Y0, Y0
	ADDQ    $32, SI
	DECQ    CX
	JNZ     meanSum
	VDIVPS  Y1, Y0, Y0
	VSQRTPS Y0, Y0

meanWeight:
	VANDPS  lanes_x(DI), Y15, Y2
	VADDPS  Y2, Y0, Y2
	VMOVUPS Y2, lanes_w(DI)
	ADDQ    $32, DI
	DECQ    DX
	JNZ     meanWeight
	VZEROUPPER
	RET

// func weighAbsAVX2(l *lanes, n int)
TEXT ·weighAbsAVX2(SB), NOSPLIT, $0-16
	MOVQ         l+0(FP), DI
	MOVQ         n+8(FP), CX
	VBROADCASTSS magnitude<>(SB), Y15

absLoop:
	VANDPS  lanes_x(DI), Y15, Y2
	VMOVUPS Y2, lanes_w(DI)
	ADDQ    $32, DI
	DECQ    CX
	JNZ     absLoop
	VZEROUPPER
	RET

// func weighSquareAVX2(l *lanes, n int)
TEXT ·weighSquareAVX2(SB), NOSPLIT, $0-16
	MOVQ l+0(FP), DI
	MOVQ n+8(FP), CX

squareLoop:
	VMOVUPS lanes_x(DI), Y2
	VMULPS  Y2, Y2, Y2
	VMOVUPS Y2, lanes_w(DI)
	ADDQ    $32, DI
	DECQ    CX
	JNZ     squareLoop
	VZEROUPPER
	RET

// func weighImportanceAVX2(l *lanes, n int, sigma2 float32)
TEXT ·weighImportanceAVX2(SB), NOSPLIT, $0-20
	MOVQ         l+0(FP), DI
	MOVQ         n+8(FP), CX
	VBROADCASTSS sigma2+16(FP), Y0

importanceLoop:
	VMOVUPS lanes_x(DI), Y2
	VMULPS  Y2, Y2, Y2
	VADDPS  Y2, Y0, Y2
	VSQRTPS Y2, Y2
	VMULPS  lanes_w(DI), Y2, Y2
	VMOVUPS Y2, lanes_w(DI)
	ADDQ    $32, DI
	DECQ    CX
	JNZ     importanceLoop
	VZEROUPPER
	RET

// CODE gives the code q of the element x (Y4): inv in Y0, base in Y1, 0 in Y14,
// top in Y15.
#define CODE(off, q) \
	VMOVUPS  (lanes_x+off)(SI), Y4 \
	VSUBPS   Y1, Y4, q             \
	VMULPS   Y0, q, q              \
	VMAXPS   Y14, q, q             \
	VMINPS   Y15, q, q             \
	VROUNDPS $0, q, q              \
	VMOVUPS  q, (lanes_q+off)(SI)

// FIT adds an element to Σ w q (Y8), Σ w q² (Y9) and Σ w q x (Y10).
#define FIT(off, q) \
	CODE(off, q)                      \
	VMULPS (lanes_w+off)(SI), q, Y6   \
	VADDPS Y6, Y8, Y8                 \
	VMULPS q, Y6, Y7                  \
	VADDPS Y7, Y9, Y9                 \
	VMULPS Y4, Y6, Y6                 \
	VADDPS Y6, Y10, Y10

// MISS is the difference Y4 between an element and its code read back with
// scale Y2 and least value Y3.
#define MISS(off) \
	VMULPS (lanes_q+off)(SI), Y2, Y4 \
	VADDPS Y3, Y4, Y4                \
	VSUBPS (lanes_x+off)(SI), Y4, Y4

// SQUARED and ABSOLUTE add its weighted square or magnitude to the error Y8.
#define SQUARED(off) \
	MISS(off)                        \
	VMULPS Y4, Y4, Y4                \
	VMULPS (lanes_w+off)(SI), Y4, Y4 \
	VADDPS Y4, Y8, Y8

#define ABSOLUTE(off) \
	MISS(off)                        \
	VANDPS Y4, Y5, Y4                \
	VMULPS (lanes_w+off)(SI), Y4, Y4 \
	VADDPS Y4, Y8, Y8

// INRANGE marks groups for which inv (Y0) times the distance of an extreme from
// base (Y1) leaves the range of nearest. den is hi - base.
#define INRANGE(den) \
	VMULPS       Y0, den, Y4             \
	VMOVUPS      low-64(SP), Y5          \
	VSUBPS       Y1, Y5, Y5              \
	VMULPS       Y0, Y5, Y5              \
	VBROADCASTSS magnitude<>(SB), Y7     \
	VANDPS       Y7, Y4, Y4              \
	VANDPS       Y7, Y5, Y5              \
	VBROADCASTSS range<>(SB), Y7         \
	VCMPPS       $0x15, Y7, Y4, Y4       \
	VCMPPS       $0x15, Y7, Y5, Y5       \
	VORPS        Y4, Y5, Y4              \
	VORPS        odd-96(SP), Y4, Y4      \
	VMOVUPS      Y4, odd-96(SP)

// func affineAVX2(l *lanes, n int, steps *float32, count int, top float32, mad bool) (odd int)
TEXT ·affineAVX2(SB), NOSPLIT, $128-48
	MOVQ         l+0(FP), DI
	MOVQ         n+8(FP), R10
	MOVQ         steps+16(FP), R8
	MOVQ         count+24(FP), R9
	VBROADCASTSS top+32(FP), Y15
	MOVBLZX      mad+36(FP), R11
	VXORPS       Y14, Y14, Y14

	// Extremes and sums; the first element starts them.
	VMOVUPS lanes_x(DI), Y1    // lo
	VMOVAPS Y1, Y11            // hi
	VMOVUPS lanes_w(DI), Y8    // Σ w
	VMULPS  Y1, Y8, Y9         // Σ w x
	LEAQ    32(DI), SI
	LEAQ    -1(R10), CX

affineExtremes:
	VMOVUPS lanes_x(SI), Y4
	VMOVUPS lanes_w(SI), Y5
	VMINPS  Y1, Y4, Y1
	VMAXPS  Y11, Y4, Y11
	VADDPS  Y5, Y8, Y8
	VMULPS  Y4, Y5, Y5
	VADDPS  Y5, Y9, Y9
	ADDQ    $32, SI
	DECQ    CX
	JNZ     affineExtremes

	VMINPS  Y1, Y14, Y1           // at most 0
	VMOVUPS Y8, lanes_sumW(DI)
	VMOVUPS Y9, sumX-32(SP)
	VMOVUPS Y1, low-64(SP)
	VMOVUPS Y14, odd-96(SP)
	VCMPPS  $4, Y1, Y11, Y4       // hi != lo
	VMOVUPS Y4, alive-128(SP)

	// The plain candidate.
	SHRQ         $2, R10
	VSUBPS       Y1, Y11, Y3
	VDIVPS       Y3, Y15, Y0
	INRANGE(Y3)
	VBROADCASTSS one<>(SB), Y2
	VDIVPS       Y0, Y2, Y2
	VMOVUPS      Y0, lanes_inv(DI)
	VMOVUPS      Y1, lanes_base(DI)
	MOVQ         DI, SI
	MOVQ         R10, CX

affinePlain:
	CODE(0, Y5)
	CODE(32, Y6)
	CODE(64, Y7)
	CODE(96, Y8)
	ADDQ $128, SI
	DECQ CX
	JNZ  affinePlain

	VMOVAPS Y1, Y3
	VMOVUPS alive-128(SP), Y6
	XORQ    R12, R12             // the first error stands
	JMP     affineError

affineStep:
	VBROADCASTSS (R8), Y0
	VSUBPS       Y1, Y11, Y3
	VDIVPS       Y3, Y0, Y0      // inv
	INRANGE(Y3)
	VXORPS       Y8, Y8, Y8
	VXORPS       Y9, Y9, Y9
	VXORPS       Y10, Y10, Y10
	MOVQ         DI, SI
	MOVQ         R10, CX

affineFit:
	FIT(0, Y5)
	FIT(32, Y5)
	FIT(64, Y5)
	FIT(96, Y5)
	ADDQ $128, SI
	DECQ CX
	JNZ  affineFit

	VMOVUPS   lanes_sumW(DI), Y5
	VMOVUPS   sumX-32(SP), Y7
	VMULPS    Y9, Y5, Y4
	VMULPS    Y8, Y8, Y6
	VSUBPS    Y6, Y4, Y4          // determinant
	VCMPPS    $0x1e, Y14, Y4, Y6  // > 0
	VMULPS    Y10, Y5, Y2
	VMULPS    Y8, Y7, Y3
	VSUBPS    Y3, Y2, Y2
	VDIVPS    Y4, Y2, Y2          // scale
	VMULPS    Y7, Y9, Y3
	VMULPS    Y10, Y8, Y5
	VSUBPS    Y5, Y3, Y3
	VDIVPS    Y4, Y3, Y3          // least value
	VCMPPS    $0x1e, Y14, Y3, Y4  // > 0: then 0
	VDIVPS    Y9, Y10, Y5
	VBLENDVPS Y4, Y5, Y2, Y2
	VANDNPS   Y3, Y4, Y3
	VANDPS    alive-128(SP), Y6, Y6
	MOVQ      $1, R12

affineError: // of scale Y2, least value Y3; candidates count where Y6 is set
	VXORPS Y8, Y8, Y8
	MOVQ   DI, SI
	MOVQ   R10, CX
	TESTL  R11, R11
	JNZ    affineMad

affineSquared:
	SQUARED(0)
	SQUARED(32)
	SQUARED(64)
	SQUARED(96)
	ADDQ $128, SI
	DECQ CX
	JNZ  affineSquared
	JMP  affineKeep

affineMad:
	VBROADCASTSS magnitude<>(SB), Y5

affineAbsolute:
	ABSOLUTE(0)
	ABSOLUTE(32)
	ABSOLUTE(64)
	ABSOLUTE(96)
	ADDQ $128, SI
	DECQ CX
	JNZ  affineAbsolute

affineKeep:
	TESTQ     R12, R12
	JZ        affineFirst
	VCMPPS    $0x11, Y13, Y8, Y4  // error < best
	VANDPS    Y6, Y4, Y4
	VBLENDVPS Y4, Y8, Y13, Y13
	VBLENDVPS Y4, Y2, Y12, Y12
	VMOVUPS   lanes_inv(DI), Y5
	VBLENDVPS Y4, Y0, Y5, Y5
	VMOVUPS   Y5, lanes_inv(DI)
	VMOVUPS   lanes_base(DI), Y5
	VBLENDVPS Y4, Y1, Y5, Y5
	VMOVUPS   Y5, lanes_base(DI)
	VBLENDVPS Y4, Y3, Y1, Y1
	ADDQ      $4, R8
	DECQ      R9
	JNZ       affineStep
	JMP       affineDone

affineFirst:
	VMOVAPS Y8, Y13              // best error
	VMOVAPS Y2, Y12              // its scale
	JMP     affineStep

affineDone:
	VMOVUPS      alive-128(SP), Y4
	VANDPS       Y4, Y12, Y12
	VMOVUPS      Y12, lanes_scale(DI)
	VANDPS       lanes_inv(DI), Y4, Y5
	VMOVUPS      Y5, lanes_inv(DI)
	VBROADCASTSS sign<>(SB), Y5
	VXORPS       Y5, Y1, Y1
	VMOVUPS      Y1, lanes_least(DI)
	VANDPS       odd-96(SP), Y4, Y4
	VMOVMSKPS    Y4, AX
	MOVQ         AX, odd+40(FP)
	VZEROUPPER
	RET

// ROUND adds an element to A = Σ w x q (Y8) and B = Σ w q² (Y9): inv in Y0, the
// ends of the codes in Y2 and Y3.
#define ROUND(off, q) \
	VMULPS   (lanes_x+off)(SI), Y0, q \
	VMAXPS   Y2, q, q                 \
	VMINPS   Y3, q, q                 \
	VROUNDPS $0, q, q                 \
	VMULPS   (lanes_p+off)(SI), q, Y6 \
	VADDPS   Y6, Y8, Y8               \
	VMULPS   (lanes_w+off)(SI), q, Y7 \
	VMULPS   q, Y7, Y7                \
	VADDPS   Y7, Y9, Y9

#define ROUNDS(loop) \
	VXORPS Y8, Y8, Y8 \
	VXORPS Y9, Y9, Y9 \
	MOVQ   DI, SI     \
	MOVQ   R10, CX    \
loop:                 \
	ROUND(0, Y4)      \
	ROUND(32, Y5)     \
	ROUND(64, Y4)     \
	ROUND(96, Y5)     \
	ADDQ   $128, SI   \
	DECQ   CX         \
	JNZ    loop

// func symmetricAVX2(l *lanes, n int, steps *float32, count int, top float32)
TEXT ·symmetricAVX2(SB), NOSPLIT, $0-36
	MOVQ         l+0(FP), DI
	MOVQ         n+8(FP), R10
	MOVQ         steps+16(FP), R8
	MOVQ         count+24(FP), R9
	VBROADCASTSS top+32(FP), Y3
	VBROADCASTSS sign<>(SB), Y4
	VBROADCASTSS one<>(SB), Y5
	VBROADCASTSS magnitude<>(SB), Y15
	VXORPS       Y14, Y14, Y14
	VXORPS       Y4, Y3, Y2      // -top
	VSUBPS       Y5, Y3, Y3      // top - 1

	VXORPS Y11, Y11, Y11         // peak
	VXORPS Y10, Y10, Y10         // its magnitude
	VXORPS Y8, Y8, Y8            // Σ w
	MOVQ   DI, SI
	MOVQ   R10, CX

symmetricPeak:
	VMOVUPS   lanes_x(SI), Y4
	VMOVUPS   lanes_w(SI), Y5
	VANDPS    Y4, Y15, Y6
	VCMPPS    $0x1e, Y10, Y6, Y7
	VBLENDVPS Y7, Y4, Y11, Y11
	VBLENDVPS Y7, Y6, Y10, Y10
	VADDPS    Y5, Y8, Y8
	VMULPS    Y4, Y5, Y5
	VMOVUPS   Y5, lanes_p(SI)
	ADDQ      $32, SI
	DECQ      CX
	JNZ       symmetricPeak

	VMOVUPS      Y8, lanes_sumW(DI)
	VBROADCASTSS tiny<>(SB), Y4
	VCMPPS       $0x15, Y4, Y10, Y15 // groups that are not zero
	SHRQ         $2, R10
	VDIVPS       Y11, Y2, Y0
	VMOVAPS      Y0, Y12             // inv of the best candidate
	ROUNDS(symmetricPlain)
	VDIVPS       Y9, Y8, Y13
	VCMPPS       $4, Y14, Y9, Y4
	VANDPS       Y4, Y13, Y13        // its scale, 0 if B is 0
	VMULPS       Y8, Y13, Y10        // its gain A²/B

symmetricStep:
	VBROADCASTSS (R8), Y0
	VDIVPS       Y11, Y0, Y0
	ROUNDS(symmetricLoop)
	VMULPS       Y8, Y8, Y4
	VMULPS       Y9, Y10, Y5
	VCMPPS       $0x1e, Y5, Y4, Y4   // A² > best B
	VCMPPS       $0x1e, Y14, Y9, Y5
	VANDPS       Y5, Y4, Y4
	VDIVPS       Y9, Y8, Y5
	VMULPS       Y8, Y5, Y6
	VBLENDVPS    Y4, Y5, Y13, Y13
	VBLENDVPS    Y4, Y6, Y10, Y10
	VBLENDVPS    Y4, Y0, Y12, Y12
	ADDQ         $4, R8
	DECQ         R9
	JNZ          symmetricStep

	VANDPS  Y15, Y13, Y13
	VANDPS  Y15, Y12, Y12
	VMOVUPS Y13, lanes_scale(DI)
	VMOVUPS Y12, lanes_inv(DI)
	VMOVUPS Y14, lanes_base(DI)
	VZEROUPPER
	RET

// NEAREST rounds v to a whole number of lo..hi as nearest does; magic, mantissa
// and middle are those numbers.
#define NEAREST(v, magic, mantissa, middle, lo, hi) \
	VADDPS   magic, v, v    \
	VPAND    mantissa, v, v \
	VPSUBD   middle, v, v   \
	VPMAXSD  lo, v, v       \
	VPMINSD  hi, v, v

// func refineAVX2(l *lanes)
TEXT ·refineAVX2(SB), NOSPLIT, $32-8
	MOVQ         l+0(FP), DI
	VBROADCASTSS magnitude<>(SB), Y15
	VXORPS       Y14, Y14, Y14
	VXORPS       Y11, Y11, Y11       // peak
	VXORPS       Y10, Y10, Y10       // its magnitude
	MOVQ         DI, SI
	MOVL         $16, CX

refinePeak:
	VMOVUPS   lanes_x(SI), Y4
	VANDPS    Y4, Y15, Y6
	VCMPPS    $0x1e, Y10, Y6, Y7
	VBLENDVPS Y7, Y4, Y11, Y11
	VBLENDVPS Y7, Y6, Y10, Y10
	VMULPS    lanes_w(SI), Y4, Y5
	VMOVUPS   Y5, lanes_p(SI)
	ADDQ      $32, SI
	DECL      CX
	JNZ       refinePeak

	VBROADCASTSS tiny<>(SB), Y4
	VCMPPS       $0x15, Y4, Y10, Y4
	VMOVUPS      Y4, alive-32(SP)
	VBROADCASTSS fourFloat<>(SB), Y0
	VDIVPS       Y11, Y0, Y0
	VBROADCASTSS magic<>(SB), Y15
	VBROADCASTSS mantissa<>(SB), Y13
	VBROADCASTSS middle<>(SB), Y12
	VBROADCASTSS four<>(SB), Y11
	VBROADCASTSS three<>(SB), Y10
	VXORPS       Y8, Y8, Y8          // A
	VXORPS       Y9, Y9, Y9          // B
	MOVQ         DI, SI
	MOVL         $16, CX

refineStart:
	VMULPS    lanes_x(SI), Y0, Y4
	NEAREST(Y4, Y15, Y13, Y12, Y11, Y10)
	VCVTDQ2PS Y4, Y4
	VMOVUPS   Y4, lanes_q(SI)
	VMULPS    lanes_p(SI), Y4, Y5
	VADDPS    Y5, Y8, Y8
	VMULPS    lanes_w(SI), Y4, Y5
	VMULPS    Y4, Y5, Y5
	VADDPS    Y5, Y9, Y9
	ADDQ      $32, SI
	DECL      CX
	JNZ       refineStart

	MOVL $5, DX

refinePass:
	VXORPS Y7, Y7, Y7          // changed
	MOVQ   DI, SI
	MOVL   $16, CX

refineElement:
	VMOVUPS   lanes_q(SI), Y0
	VMULPS    lanes_p(SI), Y0, Y1
	VSUBPS    Y1, Y8, Y1          // A without the element
	VMULPS    lanes_w(SI), Y0, Y2
	VMULPS    Y0, Y2, Y2
	VSUBPS    Y2, Y9, Y2          // B without the element
	VMULPS    lanes_x(SI), Y2, Y3
	VDIVPS    Y1, Y3, Y3
	NEAREST(Y3, Y15, Y13, Y12, Y11, Y10)
	VCVTDQ2PS Y3, Y3              // the new code
	VCMPPS    $0x1e, Y14, Y1, Y6
	VCMPPS    $4, Y0, Y3, Y4
	VANDPS    Y4, Y6, Y6
	VMULPS    lanes_p(SI), Y3, Y4
	VADDPS    Y4, Y1, Y1
	VMULPS    lanes_w(SI), Y3, Y4
	VMULPS    Y3, Y4, Y4
	VADDPS    Y4, Y2, Y2
	VCMPPS    $0x1e, Y14, Y2, Y4
	VANDPS    Y4, Y6, Y6
	VMULPS    Y1, Y1, Y4
	VMULPS    Y9, Y4, Y4
	VMULPS    Y8, Y8, Y5
	VMULPS    Y2, Y5, Y5
	VCMPPS    $0x1e, Y5, Y4, Y4
	VANDPS    Y4, Y6, Y6
	VANDPS    alive-32(SP), Y6, Y6
	VBLENDVPS Y6, Y3, Y0, Y0
	VBLENDVPS Y6, Y1, Y8, Y8
	VBLENDVPS Y6, Y2, Y9, Y9
	VORPS     Y6, Y7, Y7
	VMOVUPS   Y0, lanes_q(SI)
	ADDQ      $32, SI
	DECL      CX
	JNZ       refineElement

	VMOVMSKPS Y7, AX
	TESTL     AX, AX
	JZ        refineDone
	DECL      DX
	JNZ       refinePass

refineDone:
	VMOVUPS   alive-32(SP), Y4
	VCMPPS    $0x1e, Y14, Y9, Y5
	VDIVPS    Y9, Y8, Y8
	VANDPS    Y5, Y8, Y8
	VANDPS    Y4, Y8, Y8
	VMOVUPS   Y8, lanes_scale(DI)
	VMOVMSKPS Y4, AX
	CMPL      AX, $255
	JEQ       refineReturn

	VBROADCASTSS fourFloat<>(SB), Y0 // the codes of groups that are zero
	MOVL         $16, CX

refineZero:
	VMOVUPS   lanes_q(DI), Y1
	VBLENDVPS Y4, Y1, Y0, Y1
	VMOVUPS   Y1, lanes_q(DI)
	ADDQ      $32, DI
	DECL      CX
	JNZ       refineZero

refineReturn:
	VZEROUPPER
	RET

// NUMBERS loads those of nearest for divide and multiply.
#define NUMBERS \
	VBROADCASTSS magic<>(SB), Y15    \
	VBROADCASTSS mantissa<>(SB), Y13 \
	VBROADCASTSS middle<>(SB), Y12   \
	MOVL         $8, CX

// BYTES stores the 32 codes Y0, Y1, Y2, Y3.
#define BYTES \
	NEAREST(Y0, Y15, Y13, Y12, Y11, Y10) \
	NEAREST(Y1, Y15, Y13, Y12, Y11, Y10) \
	NEAREST(Y2, Y15, Y13, Y12, Y11, Y10) \
	NEAREST(Y3, Y15, Y13, Y12, Y11, Y10) \
	VPSUBD    Y11, Y0, Y0                \
	VPSUBD    Y11, Y1, Y1                \
	VPSUBD    Y11, Y2, Y2                \
	VPSUBD    Y11, Y3, Y3                \
	VPACKSSDW Y1, Y0, Y0                 \
	VPACKSSDW Y3, Y2, Y2                 \
	VPERMQ    $0xd8, Y0, Y0              \
	VPERMQ    $0xd8, Y2, Y2              \
	VPACKUSWB Y2, Y0, Y0                 \
	VPERMQ    $0xd8, Y0, Y0              \
	VMOVDQU   Y0, (DI)

// func divideAVX2(codes *[256]byte, x *[256]float32, d, m *[16]float32, lo, hi int32)
TEXT ·divideAVX2(SB), NOSPLIT, $0-40
	MOVQ         codes+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         d+16(FP), R8
	MOVQ         m+24(FP), R9
	VBROADCASTSS lo+32(FP), Y11
	VBROADCASTSS hi+36(FP), Y10
	NUMBERS

divideLoop:
	VBROADCASTSS 0(R8), Y4
	VBROADCASTSS 4(R8), Y5
	VBROADCASTSS 0(R9), Y6
	VBROADCASTSS 4(R9), Y7
	VADDPS       0(SI), Y6, Y0
	VADDPS       32(SI), Y6, Y1
	VADDPS       64(SI), Y7, Y2
	VADDPS       96(SI), Y7, Y3
	VDIVPS       Y4, Y0, Y0
	VDIVPS       Y4, Y1, Y1
	VDIVPS       Y5, Y2, Y2
	VDIVPS       Y5, Y3, Y3
	BYTES
	ADDQ         $8, R8
	ADDQ         $8, R9
	ADDQ         $128, SI
	ADDQ         $32, DI
	DECL         CX
	JNZ          divideLoop
	VZEROUPPER
	RET

// func multiplyAVX2(codes *[256]byte, x *[256]float32, inv, base *[16]float32, lo, hi int32)
TEXT ·multiplyAVX2(SB), NOSPLIT, $0-40
	MOVQ         codes+0(FP), DI
	MOVQ         x+8(FP), SI
	MOVQ         inv+16(FP), R8
	MOVQ         base+24(FP), R9
	VBROADCASTSS lo+32(FP), Y11
	VBROADCASTSS hi+36(FP), Y10
	NUMBERS

multiplyLoop:
	VBROADCASTSS 0(R8), Y4
	VBROADCASTSS 4(R8), Y5
	VBROADCASTSS 0(R9), Y6
	VBROADCASTSS 4(R9), Y7
	VMOVUPS      0(SI), Y0
	VMOVUPS      32(SI), Y1
	VMOVUPS      64(SI), Y2
	VMOVUPS      96(SI), Y3
	VSUBPS       Y6, Y0, Y0
	VSUBPS       Y6, Y1, Y1
	VSUBPS       Y7, Y2, Y2
	VSUBPS       Y7, Y3, Y3
	VMULPS       Y4, Y0, Y0
	VMULPS       Y4, Y1, Y1
	VMULPS       Y5, Y2, Y2
	VMULPS       Y5, Y3, Y3
	BYTES
	ADDQ         $8, R8
	ADDQ         $8, R9
	ADDQ         $128, SI
	ADDQ         $32, DI
	DECL         CX
	JNZ          multiplyLoop
	VZEROUPPER
	RET
