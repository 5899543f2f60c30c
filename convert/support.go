package convert

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// supportFiles are the small files beside a graph: the checkpoint's own
// (tokenizer, template, licence, card) and the configurations of the runtimes.
func (j *Job) supportFiles(m *onnx.Model) ([]plan.File, error) {
	files, err := j.checkpointFiles()
	if err != nil {
		return nil, err
	}
	b, err := marshal(genaiConfig(j.Spec, m, files))
	if err != nil {
		return nil, err
	}
	files = append(files, plan.File{Name: modeldir.GenAIConfigFile, Data: b})
	slices.SortFunc(files, func(a, b plan.File) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return files, nil
}

// checkpointFiles are the checkpoint's own, with a generation_config.json where
// it has none.
func (j *Job) checkpointFiles() ([]plan.File, error) {
	var files []plan.File
	has := map[string]bool{}
	for _, f := range j.ck.SupportFiles() {
		b, err := f.Data()
		if err != nil {
			return nil, fmt.Errorf("read %s of the checkpoint: %w", f.Name, err)
		}
		if f.Name == modeldir.GenerationConfigFile {
			if _, err := modeldir.ParseGeneration(b); err != nil {
				return nil, fmt.Errorf("%s of the checkpoint: %w", f.Name, err)
			}
		}
		has[f.Name] = true
		files = append(files, plan.File{Name: f.Name, Data: b})
	}
	if !has[modeldir.GenerationConfigFile] {
		b, err := marshal(modeldir.Generation{BOS: one(j.Spec.BOS), EOS: many(j.Spec.EOS), Pad: one(j.Spec.PAD)})
		if err != nil {
			return nil, err
		}
		files = append(files, plan.File{Name: modeldir.GenerationConfigFile, Data: b})
	}
	return files, nil
}

func marshal(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return append(b, '\n'), nil
}

func one(id int) modeldir.TokenIDs {
	if id < 0 {
		return nil
	}
	return modeldir.TokenIDs{int32(id)}
}

func many(ids []int) modeldir.TokenIDs {
	var out modeldir.TokenIDs
	for _, id := range ids {
		out = append(out, int32(id))
	}
	return out
}

// genaiConfig describes the graph to onnxruntime-genai. The end tokens are
// generation_config.json's, which some models extend beyond config.json's.
func genaiConfig(s *arch.Spec, m *onnx.Model, files []plan.File) modeldir.GenAI {
	in, out := modeldir.DefaultNames()
	hasPositions := slices.ContainsFunc(m.Graph.Inputs, func(v onnx.Value) bool { return v.Name == in.PositionIDs })
	if !hasPositions {
		in.PositionIDs = ""
	}
	eos, bos, pad := many(s.EOS), one(s.BOS), one(s.PAD)
	for _, f := range files {
		if f.Name != modeldir.GenerationConfigFile {
			continue
		}
		if g, err := modeldir.ParseGeneration(f.Data); err == nil && len(g.EOS) > 0 {
			eos = g.EOS
		}
	}
	if len(pad) == 0 && len(eos) > 0 {
		pad = eos[:1] // genai wants a padding token; the first end token is customary
	}
	_, fused := m.Opset(onnx.DomainMicrosoft)
	g := modeldir.GenAI{
		Model: modeldir.GenAIModel{
			Type: s.ModelType, BOS: bos, EOS: eos, Pad: pad, VocabSize: s.Vocab, ContextLength: s.MaxContext,
			Decoder: modeldir.GenAIDecoder{
				Filename: modeldir.ModelFile, HeadSize: s.HeadDim, HiddenSize: s.Hidden,
				Heads: s.Heads, Layers: s.Layers, KVHeads: s.KVHeads,
				SessionOptions: modeldir.GenAISessionOptions{LogID: "onnxruntime-genai", ProviderOptions: []json.RawMessage{}},
				Inputs:         in, Outputs: out,
			},
		},
		// genai allocates a shared cache for max_length at once: its default,
		// the model's whole context, has made users run out of memory.
		Search: modeldir.GenAISearch{
			MaxLength: min(s.MaxContext, 4096), NumBeams: 1, NumReturn: 1, LengthPenalty: 1,
			RepetitionPenalty: 1, Temperature: 1, TopK: 50, TopP: 1, EarlyStopping: true,
			ShareBuffer: fused,
		},
	}
	if multipliesIntegers(m) {
		g.Model.Decoder.SessionOptions.ExactProducts = "1"
	}
	return g
}
