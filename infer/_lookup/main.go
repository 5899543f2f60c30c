// Command lookup measures runs of several tokens, which drafts are checked in,
// and generations with drafts; docs/speculation.md has its figures.
//
//	go run ./infer/_lookup -ort LIBRARY -mode rows -text FILE MODEL…
//
// MODEL is a folder with model.onnx, or a .gguf file (-llama LIBRARY).
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

var (
	mode    = flag.String("mode", "generate", "rows: logits of runs of several tokens against single ones; cost: their times; generate: answers to -prompts with drafts and without, in alternating rounds; profile: a trace of a prefill and 40 single tokens")
	ortLib  = flag.String("ort", "", "ONNX Runtime library")
	llama   = flag.String("llama", "", "llama.cpp library")
	flash   = flag.String("flash", "", "llama.cpp: flash attention, on or off")
	repack  = flag.Bool("repack", true, "llama.cpp: weights in an order of its own")
	trace   = flag.String("trace", "", "profile: beginning of the trace's file name")
	text    = flag.String("text", "", "text of rows, cost and profile")
	at      = flag.Int("at", 256, "tokens before those that are measured")
	prompts = flag.String("prompts", "", "pattern of files, a prompt each")
	tokens  = flag.Int("n", 128, "tokens of an answer")
	rounds  = flag.Int("rounds", 3, "rounds of generate")
	loose   = flag.Bool("loose", false, "drafts also where rounding may change the text")
)

func main() {
	flag.Parse()
	for _, path := range flag.Args() {
		if err := measure(context.Background(), path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func measure(ctx context.Context, path string) error {
	s, tok, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	if *mode == "generate" {
		return generate(ctx, path, s, tok)
	}
	data, err := os.ReadFile(*text)
	if err != nil {
		return err
	}
	ids := tok.Encode(string(data), tokenizer.EncodeOptions{})
	if len(ids) < *at+400 {
		return fmt.Errorf("%s has %d tokens, want %d", *text, len(ids), *at+400)
	}
	switch *mode {
	case "rows":
		return rows(ctx, path, s, ids)
	case "cost":
		return cost(ctx, path, s, ids)
	case "profile":
		return profile(ctx, s, ids)
	}
	return fmt.Errorf("-mode %q is not known", *mode)
}

func open(ctx context.Context, path string) (infer.Session, *tokenizer.Tokenizer, error) {
	o := infer.OpenOptions{Rows: infer.LookupRows, Context: 2048}
	var backend infer.Backend
	var folder *modeldir.Folder
	var tok *tokenizer.Tokenizer
	var err error
	if strings.HasSuffix(path, ".gguf") {
		if folder, tok, err = llamacpp.OpenText(path); err != nil {
			return nil, nil, err
		}
		backend, err = llamacpp.New(llamacpp.Options{Library: *llama, Flash: *flash, NoRepack: !*repack})
	} else {
		if folder, err = modeldir.Open(path); err != nil {
			return nil, nil, err
		}
		if tok, err = tokenizer.Load(folder.Dir); err != nil {
			return nil, nil, err
		}
		backend, err = onnxruntime.New(onnxruntime.Options{Library: *ortLib, Profile: *trace})
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := backend.Open(ctx, folder, o)
	return s, tok, err
}

// rows compares runs of several tokens with single ones, from the same cache.
func rows(ctx context.Context, path string, s infer.Session, ids []int32) error {
	single := func(part []int32, each func(i int, logits []float32)) error {
		for i := range part {
			l, err := s.Eval(ctx, part[i:i+1])
			if err != nil {
				return err
			}
			each(i, l)
		}
		return nil
	}
	for _, m := range []int{2, 4, 8} {
		if err := s.Truncate(0); err != nil {
			return err
		}
		if _, err := s.Eval(ctx, ids[:*at]); err != nil {
			return err
		}
		equal, n, flips := 0, 0, 0
		var all []float64
		for from := *at; from < *at+300; from += m {
			part := ids[from : from+m]
			alone := make([][]float32, m)
			if err := single(part, func(i int, l []float32) { alone[i] = slices.Clone(l) }); err != nil {
				return err
			}
			if err := s.Truncate(from); err != nil {
				return err
			}
			err := s.EvalAll(ctx, part, func(i int, l []float32) error {
				d := 0.0
				for j, v := range l {
					d = max(d, math.Abs(float64(v-alone[i][j])))
				}
				if d == 0 {
					equal++
				}
				if likeliest(l) != likeliest(alone[i]) {
					flips++
				}
				n++
				all = append(all, d)
				return nil
			})
			if err != nil {
				return err
			}
			if err := s.Truncate(from); err != nil {
				return err
			}
			if err := single(part, func(int, []float32) {}); err != nil {
				return err
			}
		}
		slices.Sort(all)
		fmt.Printf("%s: runs of %d: %d rows, %d the same, another likeliest token in %d, largest difference: median %.3g, most %.3g\n",
			path, m, n, equal, flips, all[n/2], all[n-1])
	}
	return nil
}

func likeliest(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// cost measures runs of several tokens in turns.
func cost(ctx context.Context, path string, s infer.Session, ids []int32) error {
	if _, err := s.Eval(ctx, ids[:*at]); err != nil {
		return err
	}
	times := map[int][]float64{}
	for range 30 {
		for m := 1; m <= infer.LookupRows; m++ {
			start := time.Now()
			if err := s.EvalAll(ctx, ids[*at:*at+m], func(int, []float32) error { return nil }); err != nil {
				return err
			}
			times[m] = append(times[m], time.Since(start).Seconds()*1e3)
			if err := s.Truncate(*at); err != nil {
				return err
			}
		}
	}
	fmt.Print(path)
	for m := 1; m <= infer.LookupRows; m++ {
		slices.Sort(times[m])
		fmt.Printf("  %d: %.2f", m, times[m][15]/times[1][15])
	}
	fmt.Printf("  (1: %.2f ms)\n", times[1][15])
	return nil
}

// profile runs a prompt and single tokens under ONNX Runtime's profiler.
func profile(ctx context.Context, s infer.Session, ids []int32) error {
	if _, err := s.Eval(ctx, ids[:*at]); err != nil {
		return err
	}
	for i := *at; i < *at+40; i++ {
		if _, err := s.Eval(ctx, ids[i:i+1]); err != nil {
			return err
		}
	}
	files, err := onnxruntime.EndProfiling(s)
	fmt.Println(files)
	return err
}

// generate compares answers without drafts and with them.
func generate(ctx context.Context, path string, s infer.Session, tok *tokenizer.Tokenizer) error {
	files, err := filepath.Glob(*prompts)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no prompts: %q (%v)", *prompts, err)
	}
	l := infer.NewLookup(infer.LookupOptions{Loose: *loose})
	same := 0
	var ratios []float64
	var all infer.LookupStats
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		ids := tok.Encode(string(data), tokenizer.EncodeOptions{ParseSpecial: true})
		var times [2][]float64
		var texts [2][]int32
		for range *rounds {
			for i, lookup := range []*infer.Lookup{nil, l} {
				if err := s.Truncate(0); err != nil {
					return err
				}
				r, err := infer.Generate(s, nil, ids, infer.Options{MaxTokens: *tokens, Lookup: lookup, StopTokens: []int32{0, 2}}).Run(ctx, nil)
				if err != nil {
					return err
				}
				times[i] = append(times[i], r.Timings.Decode.Seconds()/float64(max(len(r.TokenIDs)-1, 1)))
				texts[i] = r.TokenIDs
				st := r.Lookup
				all.Runs, all.Drafted, all.Accepted, all.Trials = all.Runs+st.Runs, all.Drafted+st.Drafted, all.Accepted+st.Accepted, all.Trials+st.Trials
				if i == 1 {
					all.Off = st.Off
				}
			}
		}
		slices.Sort(times[0])
		slices.Sort(times[1])
		ratio := times[0][*rounds/2] / times[1][*rounds/2]
		ratios = append(ratios, ratio)
		equal := slices.Equal(texts[0], texts[1])
		if equal {
			same++
		}
		fmt.Printf("  %-16s %3d tokens, %6.2f ms each without, x %.2f, same text: %v\n", filepath.Base(f), len(texts[1]), times[0][*rounds/2]*1e3, ratio, equal)
	}
	slices.Sort(ratios)
	fmt.Printf("%s: median x %.2f (%.2f to %.2f), same text %d of %d, %+v\n", path, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], same, len(files), all)
	return nil
}
