package tokenizer

import (
	"encoding/json"
	"slices"
)

// preTokenizer is what a name in tokenizer.ggml.pre stands for. Patterns and
// names are those of llama.cpp (src/llama-vocab.cpp, 00ad355e); where a comment
// there gives the pattern of the model's tokenizer.json, that one is used.
type preTokenizer struct {
	names []string
	// patterns are Split stages, each Isolated; digits puts Digits (individual)
	// first; with gpt2 the last is ByteLevel's own pattern.
	digits, gpt2 bool
	patterns     []string

	nfc          bool // the models of that name have an NFC normalizer
	ignoreMerges bool
	addBOS       bool // where .add_bos_token is absent
}

const (
	qwen35Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	tekkenPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|` +
		`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|` +
		`\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	gpt4oPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
		`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
		`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	deepseek3Pattern = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" +
		`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizers lists the names known.
func preTokenizers() []preTokenizer {
	return []preTokenizer{
		{names: []string{"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum",
			"modern-bert", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"}, gpt2: true},
		// Files from before .pre was written have none; their models are the ones
		// that llama.cpp calls default.
		{names: []string{"default", ""}, patterns: []string{`[\p{P}\$\+<=>\^~\|]+`, gpt2Pattern, `\p{N}+`, `[0-9][0-9][0-9]`}},
		{names: []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, digits: true, gpt2: true},
		{names: []string{"qwen2", "deepseek-r1-qwen", "megrez", "kormo", "f2llmv2"}, patterns: []string{qwen2Pattern}, nfc: true},
		{names: []string{"stablelm2", "hunyuan"}, patterns: []string{qwen2Pattern}},
		{names: []string{"qwen35"}, patterns: []string{qwen35Pattern}, nfc: true},
		{names: []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
			patterns: []string{llama3Pattern}, ignoreMerges: true, addBOS: true},
		{names: []string{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, patterns: []string{llama3Pattern}},
		{names: []string{"tekken"}, patterns: []string{tekkenPattern}, ignoreMerges: true, addBOS: true},
		{names: []string{"gpt-4o", "llama4", "kanana2"}, patterns: []string{gpt4oPattern}},
		{names: []string{"deepseek-v3", "hunyuan-dense"}, patterns: []string{`\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+`, deepseek3Pattern}},
		{names: []string{"deepseek-coder"}, patterns: []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}`}},
	}
}

func findPre(name string) (preTokenizer, bool) {
	for _, p := range preTokenizers() {
		if slices.Contains(p.names, name) {
			return p, true
		}
	}
	return preTokenizer{}, false
}

// json gives the pre_tokenizer of a tokenizer.json.
func (p preTokenizer) json() json.RawMessage {
	list := []byte(`{"type":"Sequence","pretokenizers":[`)
	if p.digits {
		list = append(list, `{"type":"Digits","individual_digits":true},`...)
	}
	for _, pattern := range p.patterns {
		list = append(list, `{"type":"Split","pattern":{"Regex":`...)
		list = appendJSONString(list, pattern)
		list = append(list, `},"behavior":"Isolated","invert":false},`...)
	}
	list = append(list, `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":`...)
	if p.gpt2 {
		return append(list, `true}]}`...)
	}
	return append(list, `false}]}`...)
}
