//go:build !noasm

// Written by hand: three loops over [element][lane], no scheduling worth a
// generator. Field offsets come from go_asm.h. No fused multiply-add: the Go
// code beside it must give the same bits.

#include "go_asm.h"
#include "textflag.h"

// The bits of |float32|.
DATA magnitude<>+0(SB)/4, $0x7fffffff
GLOBL magnitude<>(SB), RODATA|NOPTR, $4

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

// CODE rounds element off/32 of every lane, counts its error and leaves the
// code in c as an int32.
#define CODE(off, c) \
	VMOVUPS    (lanes_x+off)(SI), Y6 \
	VMULPS     Y6, Y0, c             \
	VMAXPS     Y2, c, c              \
	VMINPS     Y3, c, c              \
	VROUNDPS   $0, c, c              \
	VMULPS     Y4, c, Y7             \
	VSUBPS     Y7, Y6, Y6            \
	VMULPS     Y6, Y6, Y7            \
	VADDPS     Y7, Y8, Y8            \
	VANDPS     Y6, Y10, Y6           \
	VMAXPS     Y6, Y9, Y9            \
	VADDPS     Y1, c, c              \
	VCVTTPS2DQ c, c

// func finishAVX2(l *lanes, block int, top float32)
TEXT ·finishAVX2(SB), NOSPLIT, $0-20
	MOVQ         l+0(FP), DI
	MOVQ         block+8(FP), CX
	VBROADCASTSS top+16(FP), Y15
	VBROADCASTSS magnitude<>(SB), Y10
	VMOVUPS      lanes_inv(DI), Y0
	VMOVUPS      lanes_zero(DI), Y1
	VXORPS       Y8, Y8, Y8         // Σ d²
	VXORPS       Y9, Y9, Y9         // max |d|
	VSUBPS       Y1, Y8, Y2         // -zero
	VSUBPS       Y1, Y15, Y3        // top - zero
	VMOVUPS      lanes_bestScale(DI), Y4
	MOVQ         DI, SI
	MOVQ         DI, R8
	SHRQ         $2, CX

finishWords:
	CODE(0, Y11)
	CODE(32, Y12)
	CODE(64, Y13)
	CODE(96, Y14)
	VPSLLD  $8, Y12, Y12
	VPSLLD  $16, Y13, Y13
	VPSLLD  $24, Y14, Y14
	VPOR    Y12, Y11, Y11
	VPOR    Y14, Y13, Y13
	VPOR    Y13, Y11, Y11
	VMOVDQU Y11, lanes_codes(R8)
	ADDQ    $128, SI
	ADDQ    $32, R8
	DECQ    CX
	JNZ     finishWords

	VMOVUPS Y8, lanes_err(DI)
	VMOVUPS Y9, lanes_worst(DI)
	VZEROUPPER
	RET
