package infer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// plainDistribution is the definition of the options, written without regard
// to speed: probability of each id.
func plainDistribution(logits []float32, o SamplerOptions) []float64 {
	type tok struct {
		id int
		x  float64
	}
	toks := make([]tok, len(logits))
	for i, v := range logits {
		toks[i] = tok{i, float64(v) / o.Temperature}
	}
	slices.SortStableFunc(toks, func(a, b tok) int { return cmp.Compare(b.x, a.x) })
	if o.TopK > 0 && o.TopK < len(toks) {
		toks = toks[:o.TopK]
	}
	softmax := func() []float64 {
		p := make([]float64, len(toks))
		var z float64
		for i, t := range toks {
			p[i] = math.Exp(t.x - toks[0].x)
			z += p[i]
		}
		for i := range p {
			p[i] /= z
		}
		return p
	}
	if o.TopP > 0 && o.TopP < 1 {
		var sum float64
		for i, p := range softmax() {
			if sum += p; sum >= o.TopP {
				toks = toks[:i+1]
				break
			}
		}
	}
	if o.MinP > 0 {
		p := softmax()
		n := 1
		for n < len(p) && p[n] >= o.MinP*p[0] {
			n++
		}
		toks = toks[:n]
	}
	out := make([]float64, len(logits))
	for i, p := range softmax() {
		out[toks[i].id] = p
	}
	return out
}

func TestSamplerDistribution(t *testing.T) {
	base := randomLogits(300)
	const draws = 12000
	for _, o := range []SamplerOptions{
		{Temperature: 1},
		{Temperature: 0.5},
		{Temperature: 2, TopK: 10},
		{Temperature: 1, TopK: 300},
		{Temperature: 1, TopP: 0.9},
		{Temperature: 0.7, TopP: 0.3},
		{Temperature: 1, TopP: 0.0001},
		{Temperature: 1, MinP: 0.2},
		{Temperature: 1.5, TopK: 40, TopP: 0.8, MinP: 0.05},
		{Temperature: 1, TopP: 0.95, MinP: 0.1},
		{Temperature: 3, TopP: 0.99},
	} {
		o.Seed = 7
		t.Run(fmt.Sprintf("T%v_k%d_p%v_min%v", o.Temperature, o.TopK, o.TopP, o.MinP), func(t *testing.T) {
			want := plainDistribution(base, o)
			s, err := NewSampler(o, len(base))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]int, len(base))
			row := make([]float32, len(base))
			for range draws {
				copy(row, base)
				id, err := s.Sample(row)
				if err != nil {
					t.Fatal(err)
				}
				got[id]++
			}
			for id, p := range want {
				// Five standard deviations, and nothing where nothing may be.
				limit := 5*math.Sqrt(draws*p*(1-p)) + 1e-9
				if d := math.Abs(float64(got[id]) - draws*p); d > limit && d > 4 || p == 0 && got[id] > 0 {
					t.Errorf("id %d drawn %d times, want %.1f", id, got[id], draws*p)
				}
			}
		})
	}
}

func TestSelectTop(t *testing.T) {
	logits := randomLogits(3000)
	for i := 0; i < len(logits); i += 7 {
		logits[i] = 4.25 // many equal ones
	}
	order := make([]int32, len(logits))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
	for _, k := range []int{1, 2, 3, 50, 128, 500, 2999, 3000} {
		for i, c := range selectTop(nil, logits, k) {
			if c.id != order[i] || c.logit != logits[order[i]] {
				t.Fatalf("k=%d: rank %d is id %d, want %d", k, i, c.id, order[i])
			}
		}
	}
}

func TestExpf(t *testing.T) {
	worst := 0.0
	for x := float32(0); x > -86.9; x -= 0.00137 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(expf(x))-want)/want)
	}
	if worst > 3e-7 {
		t.Errorf("relative error %.2g, want at most 3e-7", worst)
	}
	if expf(0) != 1 || expf(float32(math.Inf(-1))) != 0 || expf(-1000) != 0 {
		t.Errorf("expf(0), expf(-Inf), expf(-1000) = %v, %v, %v", expf(0), expf(float32(math.Inf(-1))), expf(-1000))
	}
}

func TestPenaltiesAndBias(t *testing.T) {
	inf := float32(math.Inf(-1))
	for _, c := range []struct {
		name           string
		o              SamplerOptions
		prompt, answer []int32
		logits, want   []float32
	}{
		{"repetition counts prompt and answer once", SamplerOptions{RepetitionPenalty: 2},
			[]int32{0, 0, 1}, []int32{2}, []float32{4, -4, 1, 3}, []float32{2, -8, 0.5, 3}},
		{"presence counts the answer", SamplerOptions{PresencePenalty: 1.5},
			[]int32{0}, []int32{1, 1}, []float32{4, 4, 4}, []float32{4, 2.5, 4}},
		{"frequency counts each", SamplerOptions{FrequencyPenalty: 0.5},
			[]int32{0}, []int32{1, 1, 1, 2}, []float32{4, 4, 4}, []float32{4, 2.5, 3.5}},
		{"window", SamplerOptions{RepetitionPenalty: 2, FrequencyPenalty: 1, PenaltyWindow: 3},
			[]int32{0, 1, 2}, []int32{3, 3}, []float32{8, 8, 8, 8}, []float32{8, 8, 4, 2}},
		{"all together, ids beyond the row ignored", SamplerOptions{RepetitionPenalty: 2, PresencePenalty: 1, FrequencyPenalty: 1, LogitBias: map[int32]float32{0: inf, 9: 5}},
			[]int32{7}, []int32{1, 1}, []float32{4, 4, 4}, []float32{inf, -1, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := NewSampler(c.o, len(c.logits))
			if err != nil {
				t.Fatal(err)
			}
			s.Prompt(c.prompt)
			s.hist.add(c.answer, true)
			row := slices.Clone(c.logits)
			if _, err := s.Sample(row); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(row, c.want) {
				t.Errorf("penalized logits %v, want %v", row, c.want)
			}
		})
	}
}

func TestSamplerSeed(t *testing.T) {
	draw := func(seed uint64) []int32 {
		s, err := NewSampler(SamplerOptions{Temperature: 1.2, TopP: 0.97, Seed: seed}, 600)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int32
		for range 50 {
			id, err := s.Sample(randomLogits(600))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	if a, b := draw(3), draw(3); !slices.Equal(a, b) {
		t.Error("the same seed gives different tokens")
	}
	if a, b := draw(3), draw(4); slices.Equal(a, b) {
		t.Error("different seeds give the same tokens")
	}
	// Pinned: the same on every platform and in later versions.
	want := []int32{146, 554, 6, 374, 60, 239, 541, 513}
	if got := draw(3)[:8]; !slices.Equal(got, want) {
		t.Errorf("tokens of seed 3 are %v, want %v", got, want)
	}
}

func TestSamplerMasksPaddedRows(t *testing.T) {
	for _, o := range []SamplerOptions{{}, {Temperature: 5, Seed: 1}, {Temperature: 5, TopK: 3, Seed: 1}, {Temperature: 5, TopP: 0.9, Seed: 1}} {
		s, err := NewSampler(o, 3)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			id, err := s.Sample([]float32{0, 1, 0, 99, float32(math.NaN())})
			if err != nil {
				t.Fatal(err)
			}
			if id > 2 {
				t.Fatalf("%+v chose id %d of a padded row", o, id)
			}
		}
	}
}

func TestSamplerRejects(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, row := range map[string][]float32{
		"NaN": {0, nan, 0}, "+Inf": {0, inf, 0}, "all -Inf": {-inf, -inf, -inf}, "short": {1},
	} {
		for _, o := range []SamplerOptions{{}, {Temperature: 1}, {Temperature: 1, TopK: 2}} {
			s, err := NewSampler(o, 3)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := s.Sample(slices.Clone(row)); err == nil {
				t.Errorf("%s, %+v: chose %d, want an error", name, o, id)
			}
		}
	}
	for _, o := range []SamplerOptions{
		{Temperature: -1}, {Temperature: math.NaN()}, {TopK: -1}, {TopP: 1.1}, {MinP: -0.1},
		{RepetitionPenalty: -1}, {FrequencyPenalty: math.Inf(1)}, {PenaltyWindow: -1},
		{LogitBias: map[int32]float32{-1: 0}}, {LogitBias: map[int32]float32{1: inf}}, {LogitBias: map[int32]float32{1: nan}},
	} {
		if _, err := NewSampler(o, 3); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := NewSampler(SamplerOptions{}, 0); err == nil {
		t.Error("an empty vocabulary is accepted")
	}
}

func TestDefaultSampler(t *testing.T) {
	for _, c := range []struct {
		json string
		want SamplerOptions
	}{
		{`{}`, SamplerOptions{}},
		{`{"temperature":0.6,"top_k":20}`, SamplerOptions{}},
		{`{"do_sample":true}`, SamplerOptions{Temperature: 1, TopK: 50}},
		{`{"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.95,"repetition_penalty":1.05}`,
			SamplerOptions{Temperature: 0.6, TopK: 20, TopP: 0.95, RepetitionPenalty: 1.05}},
	} {
		g, err := modeldir.ParseGeneration([]byte(c.json))
		if err != nil {
			t.Fatal(err)
		}
		if got := DefaultSampler(g); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s gives %+v, want %+v", c.json, got, c.want)
		}
	}
}

func TestSampleAllocates(t *testing.T) {
	base := randomLogits(5000)
	row := make([]float32, len(base))
	for _, o := range []SamplerOptions{{}, {Temperature: 1, TopK: 50}, {Temperature: 1, TopP: 0.9}, {Temperature: 1}} {
		s, err := NewSampler(o, len(base))
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(50, func() {
			copy(row, base)
			if _, err := s.Sample(row); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%+v: %v allocations a token", o, n)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	base := randomLogits(151936)
	row := make([]float32, len(base))
	for _, o := range []SamplerOptions{
		{}, {Temperature: 1, TopK: 50}, {Temperature: 0.6, TopK: 20, TopP: 0.95},
		{Temperature: 0.7, TopP: 0.9}, {Temperature: 1, MinP: 0.05}, {RepetitionPenalty: 1.1},
	} {
		b.Run(fmt.Sprintf("T%v_k%d_p%v_min%v_rep%v", o.Temperature, o.TopK, o.TopP, o.MinP, o.RepetitionPenalty), func(b *testing.B) {
			s, err := NewSampler(o, len(base))
			if err != nil {
				b.Fatal(err)
			}
			s.Prompt(make([]int32, 500))
			copy(row, base)
			for b.Loop() {
				if _, err := s.Sample(row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
