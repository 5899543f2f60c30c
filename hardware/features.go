package hardware

import (
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Features is a set of instruction set extensions that the CPU has and the
// operating system allows.
type Features uint32

// The extensions that kernels here or in ONNX Runtime and llama.cpp make a
// difference by.
const (
	AVX Features = 1 << iota
	AVX2
	FMA
	F16C
	BMI2
	AVXVNNI
	AVX512 // F, BW, DQ and VL together
	AVX512VNNI
	AVX512BF16
	AMXInt8
	NEON
	NEONFP16 // half-precision arithmetic
	DotProd  // SDOT, UDOT
	I8MM     // SMMLA and relatives
	BF16     // BFDOT, BFMMLA
	SVE
	SVE2
)

var featureNames = []struct {
	bit  Features
	name string
	ids  []cpuid.FeatureID
}{
	{AVX, "avx", []cpuid.FeatureID{cpuid.AVX}},
	{AVX2, "avx2", []cpuid.FeatureID{cpuid.AVX2}},
	{FMA, "fma", []cpuid.FeatureID{cpuid.FMA3}},
	{F16C, "f16c", []cpuid.FeatureID{cpuid.F16C}},
	{BMI2, "bmi2", []cpuid.FeatureID{cpuid.BMI2}},
	{AVXVNNI, "avx_vnni", []cpuid.FeatureID{cpuid.AVXVNNI}},
	{AVX512, "avx512", []cpuid.FeatureID{cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL}},
	{AVX512VNNI, "avx512_vnni", []cpuid.FeatureID{cpuid.AVX512VNNI}},
	{AVX512BF16, "avx512_bf16", []cpuid.FeatureID{cpuid.AVX512BF16}},
	{AMXInt8, "amx_int8", []cpuid.FeatureID{cpuid.AMXTILE, cpuid.AMXINT8}},
	{NEON, "neon", []cpuid.FeatureID{cpuid.ASIMD}},
	{NEONFP16, "neon_fp16", []cpuid.FeatureID{cpuid.ASIMDHP}},
	{DotProd, "dotprod", []cpuid.FeatureID{cpuid.ASIMDDP}},
	{I8MM, "i8mm", []cpuid.FeatureID{cpuid.I8MM}},
	{BF16, "bf16", []cpuid.FeatureID{cpuid.BF16}},
	{SVE, "sve", []cpuid.FeatureID{cpuid.SVE}},
	{SVE2, "sve2", []cpuid.FeatureID{cpuid.SVE2}},
}

// DetectFeatures reads the features of this machine's CPU.
func DetectFeatures() Features {
	var f Features
	for _, n := range featureNames {
		if cpuid.CPU.Supports(n.ids...) {
			f |= n.bit
		}
	}
	return f
}

// Has reports whether all features of want are there.
func (f Features) Has(want Features) bool { return f&want == want }

// Without is f with the features of off turned off.
func (f Features) Without(off Features) Features { return f &^ off }

// HasInt8Dot reports instructions that multiply and add bytes without
// saturating 16-bit sums: where they are missing on x86, ONNX Runtime's W8A8
// kernels are wrong unless session.x64quantprecision is set.
func (f Features) HasInt8Dot() bool {
	return f&(AVXVNNI|AVX512VNNI|AMXInt8|DotProd|I8MM) != 0
}

// String lists the features by name, as in "avx avx2 fma".
func (f Features) String() string {
	var names []string
	for _, n := range featureNames {
		if f.Has(n.bit) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " ")
}
