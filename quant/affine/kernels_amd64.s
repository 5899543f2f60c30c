//go:build !noasm

// Written by hand: two short loops over groups, with no scheduling worth a
// generator. Field offsets come from go_asm.h. Every step is the one of the Go
// code beside it, so that both give the same bits.

#include "go_asm.h"
#include "textflag.h"

DATA magnitude<>+0(SB)/4, $0x7fffffff
GLOBL magnitude<>(SB), RODATA|NOPTR, $4

DATA infinity<>+0(SB)/4, $0x7f800000
GLOBL infinity<>(SB), RODATA|NOPTR, $4

DATA minusInfinity<>+0(SB)/4, $0xff800000
GLOBL minusInfinity<>(SB), RODATA|NOPTR, $4

DATA belowHalf<>+0(SB)/4, $0x7fff
GLOBL belowHalf<>(SB), RODATA|NOPTR, $4

DATA one<>+0(SB)/4, $1
GLOBL one<>(SB), RODATA|NOPTR, $4

DATA upper<>+0(SB)/4, $0xffff0000
GLOBL upper<>(SB), RODATA|NOPTR, $4

DATA top8<>+0(SB)/4, $255.0
GLOBL top8<>(SB), RODATA|NOPTR, $4

DATA lowHalves<>+0(SB)/8, $0x00000000ffffffff
GLOBL lowHalves<>(SB), RODATA|NOPTR, $8

// Saturating packs work in each half of a register: this order mends it.
DATA order<>+0(SB)/8, $0x0000000400000000
DATA order<>+8(SB)/8, $0x0000000500000001
DATA order<>+16(SB)/8, $0x0000000600000002
DATA order<>+24(SB)/8, $0x0000000700000003
GLOBL order<>(SB), RODATA|NOPTR, $32

// START loads the arguments of a measure kernel: the scratch in DI (x comes
// first in it), x in SI, groups in CX, blocks in BX, the places of low and high
// in R8 and R9, the mask of the magnitude in Y15, the largest magnitude in Y14.
#define START \
	MOVQ         s+0(FP), DI          \
	MOVQ         x+8(FP), SI          \
	MOVQ         groups+16(FP), CX    \
	MOVQ         blocks+24(FP), BX    \
	LEAQ         scratch_low(DI), R8  \
	LEAQ         scratch_high(DI), R9 \
	LEAQ         scratch_x(DI), DI    \
	VBROADCASTSS magnitude<>(SB), Y15 \
	VPXOR        Y14, Y14, Y14

// OPEN begins a group: extremes in Y0, Y1 and Y2, Y3, blocks left in DX.
#define OPEN \
	VBROADCASTSS infinity<>(SB), Y0      \
	VBROADCASTSS minusInfinity<>(SB), Y2 \
	VMOVAPS      Y0, Y1                  \
	VMOVAPS      Y2, Y3                  \
	MOVQ         BX, DX

// LOAD reads a vector and remembers its magnitudes.
#define LOAD(off, v) \
	VMOVUPS off(SI), v    \
	VPAND   v, Y15, Y6    \
	VPMAXUD Y6, Y14, Y14

// KEEP stores a vector and enters it into the extremes.
#define KEEP(off, v, lo, hi) \
	VMOVUPS v, off(DI)  \
	VMINPS  v, lo, lo   \
	VMAXPS  v, hi, hi

// BF16 rounds to bfloat16, half to even.
#define BF16(v) \
	VPSRLD $16, v, Y6   \
	VPAND  Y13, Y6, Y6  \
	VPADDD Y12, v, v    \
	VPADDD Y6, v, v     \
	VPAND  Y11, v, v

// F16 rounds to float16, half to even.
#define F16(v) \
	VCVTPS2PH $0, v, X6 \
	VCVTPH2PS X6, v

// NEXT moves on by a block.
#define NEXT \
	ADDQ $128, SI \
	ADDQ $128, DI \
	DECQ DX

// SHUT ends a group.
#define SHUT \
	VMINPS       Y1, Y0, Y0     \
	VMAXPS       Y3, Y2, Y2     \
	VEXTRACTF128 $1, Y0, X1     \
	VEXTRACTF128 $1, Y2, X3     \
	VMINPS       X1, X0, X0     \
	VMAXPS       X3, X2, X2     \
	VPERMILPS    $0x4e, X0, X1  \
	VPERMILPS    $0x4e, X2, X3  \
	VMINPS       X1, X0, X0     \
	VMAXPS       X3, X2, X2     \
	VPERMILPS    $0xb1, X0, X1  \
	VPERMILPS    $0xb1, X2, X3  \
	VMINPS       X1, X0, X0     \
	VMAXPS       X3, X2, X2     \
	VMOVSS       X0, (R8)       \
	VMOVSS       X2, (R9)       \
	ADDQ         $4, R8         \
	ADDQ         $4, R9         \
	DECQ         CX

// END returns the largest magnitude.
#define END \
	VEXTRACTI128 $1, Y14, X0     \
	VPMAXUD      X0, X14, X0     \
	VPSHUFD      $0x4e, X0, X1   \
	VPMAXUD      X1, X0, X0      \
	VPSHUFD      $0xb1, X0, X1   \
	VPMAXUD      X1, X0, X0      \
	VMOVD        X0, AX          \
	VZEROUPPER                   \
	MOVL         AX, ret+32(FP)  \
	RET

// func measureF32AVX2(s *scratch, x *float32, groups, blocks int) uint32
TEXT ·measureF32AVX2(SB), NOSPLIT, $0-36
	START

f32group:
	OPEN

f32block:
	LOAD(0, Y4)
	LOAD(32, Y5)
	KEEP(0, Y4, Y0, Y2)
	KEEP(32, Y5, Y1, Y3)
	LOAD(64, Y4)
	LOAD(96, Y5)
	KEEP(64, Y4, Y0, Y2)
	KEEP(96, Y5, Y1, Y3)
	NEXT
	JNZ f32block
	SHUT
	JNZ f32group
	END

// func measureBF16AVX2(s *scratch, x *float32, groups, blocks int) uint32
TEXT ·measureBF16AVX2(SB), NOSPLIT, $0-36
	START
	VPBROADCASTD one<>(SB), Y13
	VPBROADCASTD belowHalf<>(SB), Y12
	VPBROADCASTD upper<>(SB), Y11

bf16group:
	OPEN

bf16block:
	LOAD(0, Y4)
	LOAD(32, Y5)
	BF16(Y4)
	BF16(Y5)
	KEEP(0, Y4, Y0, Y2)
	KEEP(32, Y5, Y1, Y3)
	LOAD(64, Y4)
	LOAD(96, Y5)
	BF16(Y4)
	BF16(Y5)
	KEEP(64, Y4, Y0, Y2)
	KEEP(96, Y5, Y1, Y3)
	NEXT
	JNZ bf16block
	SHUT
	JNZ bf16group
	END

// func measureF16AVX2(s *scratch, x *float32, groups, blocks int) uint32
TEXT ·measureF16AVX2(SB), NOSPLIT, $0-36
	START

f16group:
	OPEN

f16block:
	LOAD(0, Y4)
	LOAD(32, Y5)
	F16(Y4)
	F16(Y5)
	KEEP(0, Y4, Y0, Y2)
	KEEP(32, Y5, Y1, Y3)
	LOAD(64, Y4)
	LOAD(96, Y5)
	F16(Y4)
	F16(Y5)
	KEEP(64, Y4, Y0, Y2)
	KEEP(96, Y5, Y1, Y3)
	NEXT
	JNZ f16block
	SHUT
	JNZ f16group
	END

// CODE sets v to eight codes: (x-bias)/scale, at most top, rounded half to
// even. What is below 0, and NaN, stays negative: the packs make it 0.
#define CODE(off, v) \
	VMOVUPS   off(SI), v  \
	VSUBPS    Y1, v, v    \
	VDIVPS    Y0, v, v    \
	VMINPS    v, Y15, v   \
	VCVTPS2DQ v, v

// CODES sets Y2 to 32 codes, a byte each.
#define CODES \
	CODE(0, Y2)             \
	CODE(32, Y3)            \
	CODE(64, Y4)            \
	CODE(96, Y5)            \
	VPACKSSDW Y3, Y2, Y2    \
	VPACKSSDW Y5, Y4, Y4    \
	VPACKUSWB Y4, Y2, Y2    \
	VPERMD    Y2, Y14, Y2

// func packAVX2(s *scratch, groups, blocks int, p *packing)
TEXT ·packAVX2(SB), NOSPLIT, $0-32
	MOVQ         s+0(FP), DI
	MOVQ         groups+8(FP), CX
	MOVQ         blocks+16(FP), BX
	MOVQ         p+24(FP), AX
	LEAQ         scratch_x(DI), SI
	LEAQ         scratch_scale(DI), R8
	LEAQ         scratch_bias(DI), R9
	LEAQ         scratch_words(DI), DI
	VBROADCASTSS packing_top(AX), Y15
	VMOVDQU      order<>(SB), Y14
	VPBROADCASTW packing_pairs(AX), Y13
	VPBROADCASTD packing_fours(AX), Y12
	VMOVQ        packing_shift(AX), X11
	VPBROADCASTQ lowHalves<>(SB), Y10
	VMOVDQU      packing_gather(AX), Y9
	MOVQ         packing_bytes(AX), R10

group:
	VBROADCASTSS (R8), Y0
	VBROADCASTSS (R9), Y1
	MOVQ         BX, DX

block:
	CODES
	VPMADDUBSW   Y13, Y2, Y2
	VPMADDWD     Y12, Y2, Y2
	VPANDN       Y2, Y10, Y3
	VPAND        Y2, Y10, Y2
	VPSRLQ       X11, Y3, Y3
	VPOR         Y3, Y2, Y2
	VPSHUFB      Y9, Y2, Y2
	VMOVDQU      X2, (DI)
	VEXTRACTI128 $1, Y2, X2
	VMOVDQU      X2, (DI)(R10*1)
	LEAQ         (DI)(R10*2), DI
	ADDQ         $128, SI
	DECQ         DX
	JNZ          block
	ADDQ         $4, R8
	ADDQ         $4, R9
	DECQ         CX
	JNZ          group
	VZEROUPPER
	RET

// func pack8AVX2(s *scratch, groups, blocks int)
TEXT ·pack8AVX2(SB), NOSPLIT, $0-24
	MOVQ         s+0(FP), DI
	MOVQ         groups+8(FP), CX
	MOVQ         blocks+16(FP), BX
	LEAQ         scratch_x(DI), SI
	LEAQ         scratch_scale(DI), R8
	LEAQ         scratch_bias(DI), R9
	LEAQ         scratch_words(DI), DI
	VBROADCASTSS top8<>(SB), Y15
	VMOVDQU      order<>(SB), Y14

group8:
	VBROADCASTSS (R8), Y0
	VBROADCASTSS (R9), Y1
	MOVQ         BX, DX

block8:
	CODES
	VMOVDQU Y2, (DI)
	ADDQ    $32, DI
	ADDQ    $128, SI
	DECQ    DX
	JNZ     block8
	ADDQ    $4, R8
	ADDQ    $4, R9
	DECQ    CX
	JNZ     group8
	VZEROUPPER
	RET
