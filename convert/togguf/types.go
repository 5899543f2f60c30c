package togguf

import (
	"fmt"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// FileType is a mixture of tensor types, by the number that general.file_type
// holds (llama.h, llama_ftype).
type FileType uint32

// The file types that are written.
const (
	F32    FileType = 0
	F16    FileType = 1
	Q4_0   FileType = 2
	Q4_1   FileType = 3
	Q8_0   FileType = 7
	Q5_0   FileType = 8
	Q5_1   FileType = 9
	Q2_K   FileType = 10
	Q3_K_S FileType = 11
	Q3_K_M FileType = 12
	Q3_K_L FileType = 13
	Q4_K_S FileType = 14
	Q4_K_M FileType = 15
	Q5_K_S FileType = 16
	Q5_K_M FileType = 17
	Q6_K   FileType = 18
	BF16   FileType = 32
)

// fileTypes gives each file type's name and the type of most of its tensors
// (llama-quant.cpp, llama_ftype_get_default_type).
var fileTypes = []struct {
	t    FileType
	name string
	base ggml.Type
}{
	{F32, "F32", ggml.F32}, {F16, "F16", ggml.F16}, {BF16, "BF16", ggml.BF16},
	{Q8_0, "Q8_0", ggml.Q8_0}, {Q6_K, "Q6_K", ggml.Q6_K},
	{Q5_K_M, "Q5_K_M", ggml.Q5_K}, {Q5_K_S, "Q5_K_S", ggml.Q5_K}, {Q5_1, "Q5_1", ggml.Q5_1}, {Q5_0, "Q5_0", ggml.Q5_0},
	{Q4_K_M, "Q4_K_M", ggml.Q4_K}, {Q4_K_S, "Q4_K_S", ggml.Q4_K}, {Q4_1, "Q4_1", ggml.Q4_1}, {Q4_0, "Q4_0", ggml.Q4_0},
	{Q3_K_L, "Q3_K_L", ggml.Q3_K}, {Q3_K_M, "Q3_K_M", ggml.Q3_K}, {Q3_K_S, "Q3_K_S", ggml.Q3_K}, {Q2_K, "Q2_K", ggml.Q2_K},
}

// aliases are names that llama-quantize takes as well.
var aliases = map[string]FileType{"Q3_K": Q3_K_M, "Q4_K": Q4_K_M, "Q5_K": Q5_K_M, "FP16": F16, "FP32": F32}

// FileTypes lists the names of the file types, best first.
func FileTypes() []string {
	var names []string
	for _, f := range fileTypes {
		names = append(names, f.name)
	}
	return names
}

// ParseFileType finds a file type by its name, ignoring case.
func ParseFileType(name string) (FileType, error) {
	up := strings.ToUpper(strings.TrimSpace(name))
	if t, ok := aliases[up]; ok {
		return t, nil
	}
	for _, f := range fileTypes {
		if f.name == up {
			return f.t, nil
		}
	}
	return 0, &tensor.UnsupportedError{What: fmt.Sprintf("GGUF type %q", name), Hint: "written are " + strings.Join(FileTypes(), ", ")}
}

// String is the name llama.cpp uses, such as "Q4_K_M".
func (t FileType) String() string {
	for _, f := range fileTypes {
		if f.t == t {
			return f.name
		}
	}
	return fmt.Sprintf("FileType(%d)", uint32(t))
}

// base is the type of most tensors.
func (t FileType) base() ggml.Type {
	for _, f := range fileTypes {
		if f.t == t {
			return f.base
		}
	}
	return ggml.F32
}

// isPlain reports whether elements of the type are stored one by one.
func isPlain(t ggml.Type) bool { return t == ggml.F32 || t == ggml.F16 || t == ggml.BF16 }

// mixture decides the types of a model's tensors, in the order of the file.
type mixture struct {
	file       FileType
	overrides  []Override
	importance bool // there is an importance matrix

	tied    bool
	grouped int  // query heads for each key head
	large   bool // llama.cpp's "70B": 80 layers of grouped queries
	eight   bool // eight experts, whose attention is small beside them

	layers, values int // layers of the model, matrices of role AttnV
	value, down    int // how many of AttnV and FFNDown have been seen
}

func newMixture(spec *arch.Spec, family string, o Options) *mixture {
	m := &mixture{
		file: o.Type, overrides: o.Overrides, importance: o.Importance != nil,
		tied: spec.Tied, eight: spec.Experts == 8, grouped: spec.Heads / spec.KVHeads, layers: spec.Layers,
		// src/models/llama.cpp and qwen2.cpp, load_arch_hparams.
		large: spec.Layers == 80 && (family == "qwen2" || family == "llama" && spec.Heads != spec.KVHeads),
	}
	for _, w := range spec.Weights() {
		if w.Role == arch.AttnV {
			m.values++
		}
	}
	return m
}

// typeOf is the type of the next tensor.
func (m *mixture) typeOf(name string, w arch.Weight) ggml.Type {
	if !w.Role.IsMatrix() || w.Role == arch.Router {
		return ggml.F32
	}
	t, named := m.file.base(), false
	for _, o := range m.overrides {
		if o.Pattern.MatchString(name) {
			t, named = o.Type, true
			break
		}
	}
	if !named && !isPlain(t) {
		t = m.mix(w, t)
	}
	return fallback(t, w.Shape[len(w.Shape)-1])
}

// mix is llama_tensor_get_type_impl.
func (m *mixture) mix(w arch.Weight, t ggml.Type) ggml.Type {
	switch w.Role {
	case arch.TokenEmbd, arch.LMHead:
		switch {
		case w.Role == arch.TokenEmbd && !m.tied:
		case w.Shape[1]%t.Block() != 0:
			t = ggml.Q8_0
		case t != ggml.Q8_0:
			t = ggml.Q6_K
		}
	case arch.AttnV:
		t = m.mixValue(t)
		m.value++
	case arch.AttnK:
		if m.eight {
			t = ggml.Q8_0
		}
	case arch.FFNDown, arch.ExpertDown:
		t = m.mixDown(t)
		m.down++
	case arch.AttnO:
		if m.eight {
			switch m.file {
			case Q2_K, Q3_K_S, Q3_K_M, Q4_K_S, Q4_K_M:
				t = ggml.Q5_K
			}
			return t
		}
		switch m.file {
		case Q2_K:
			t = ggml.Q3_K
		case Q3_K_M:
			t = ggml.Q4_K
		case Q3_K_L:
			t = ggml.Q5_K
		}
	}
	return t
}

func (m *mixture) mixValue(t ggml.Type) ggml.Type {
	i := m.value
	switch {
	case m.file == Q2_K && m.grouped >= 4:
		t = ggml.Q4_K
	case m.file == Q2_K:
		t = ggml.Q3_K
	case m.file == Q3_K_M && i < 2:
		t = ggml.Q5_K
	case m.file == Q3_K_M:
		t = ggml.Q4_K
	case m.file == Q3_K_L:
		t = ggml.Q5_K
	case (m.file == Q4_K_M || m.file == Q5_K_M) && moreBits(i, m.values):
		t = ggml.Q6_K
	case m.file == Q4_K_S && i < 4:
		t = ggml.Q5_K
	}
	if m.large && (t == ggml.Q3_K || t == ggml.Q4_K) {
		t = ggml.Q5_K
	}
	if m.eight {
		t = ggml.Q8_0
	}
	return t
}

func (m *mixture) mixDown(t ggml.Type) ggml.Type {
	i, n := m.down, m.layers
	switch {
	case m.file == Q2_K:
		return ggml.Q3_K
	case m.file == Q3_K_M && i < n/16:
		return ggml.Q5_K
	case m.file == Q3_K_M:
		return ggml.Q4_K
	case m.file == Q3_K_L:
		return ggml.Q5_K
	case (m.file == Q4_K_M || m.file == Q5_K_M) && moreBits(i, n):
		return ggml.Q6_K
	case m.file == Q4_K_S && i < n/8:
		return ggml.Q5_K
	// Even with an importance matrix these two go astray in the first layers.
	case m.file == Q4_0 && m.importance && i < n/8:
		return ggml.Q4_1
	case m.file == Q5_0 && m.importance && i < n/8:
		return ggml.Q5_1
	}
	return t
}

// moreBits is use_more_bits: the first and the last eighth of the layers, and
// every third between.
func moreBits(i, n int) bool { return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 }

// fallback replaces a type whose blocks do not fill rows of cols elements
// (tensor_type_fallback). Where the blocks of 32 do not fill them either,
// llama.cpp writes F16, or gives up if the type asked for was one of 32; here
// that is F16 too.
func fallback(t ggml.Type, cols int) ggml.Type {
	if cols%t.Block() == 0 {
		return t
	}
	switch t {
	case ggml.Q2_K, ggml.Q3_K:
		t = ggml.Q4_0
	case ggml.Q4_K:
		t = ggml.Q5_0
	case ggml.Q5_K:
		t = ggml.Q5_1
	case ggml.Q6_K:
		t = ggml.Q8_0
	}
	if cols%t.Block() != 0 {
		return ggml.F16
	}
	return t
}
