package llama

import (
	"testing"
	"unsafe"
)

// TestStructSizes: sizes are those of llama.h v0.5.0 on 64-bit systems.
func TestStructSizes(t *testing.T) {
	for _, s := range []struct {
		name      string
		got, want uintptr
	}{
		{"llama_model_params", unsafe.Sizeof(modelParams{}), 80},
		{"llama_context_params", unsafe.Sizeof(contextParams{}), 160},
		{"llama_batch", unsafe.Sizeof(batch{}), 56},
		{"abort_callback", unsafe.Offsetof(contextParams{}.abortCallback), 112},
		{"type_k", unsafe.Offsetof(contextParams{}.typeK), 104},
		{"tensor_split", unsafe.Offsetof(modelParams{}.tensorSplit), 40},
		{"vocab_only", unsafe.Offsetof(modelParams{}.vocabOnly), 72},
	} {
		if s.got != s.want {
			t.Errorf("%s: %d, want %d", s.name, s.got, s.want)
		}
	}
}

// TestDefaultsTellFieldsApart: every field whose default is compared is seen
// when it changes, so that a library with other structs cannot pass.
func TestDefaultsTellFieldsApart(t *testing.T) {
	m := modelParams{nGPULayers: -1, splitMode: 1, loadMode: -1, lazyMode: 1, useExtraBufts: true}
	if !m.isDefault() {
		t.Fatal("the model's defaults are not the defaults")
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&m)), 78) // two bytes of padding follow
	for i := range bytes {
		if i >= 36 && i < 40 { // padding
			continue
		}
		bytes[i] ^= 1
		if m.isDefault() {
			t.Errorf("a change of byte %d is not seen", i)
		}
		bytes[i] ^= 1
	}
}

func TestFlag(t *testing.T) {
	f := newFlag(false)
	defer f.release()
	word := unsafe.Slice((*byte)(f.addr()), 8)
	if word[0] != 0 {
		t.Error("a flag that is off begins with a byte that is not zero")
	}
	f.set(true)
	zero := false
	for _, b := range word {
		zero = zero || b == 0
	}
	if word[0] == 0 || !zero {
		t.Errorf("a flag that is on is no text of C: %v", word)
	}
}
