# Every target is a line or two of go commands. CGO is off but for the race
# detector, which needs it.
export CGO_ENABLED ?= 0
GO     ?= go
TOOL    = $(GO) tool -modfile=go.tools.mod
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: all build install demo comparison test oracle race lint cross fuzz bench bench-peers quality generate release clean

all: build

build:            ## the programs, into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

install:          ## the programs on PATH
	$(GO) install -trimpath ./cmd/...

demo: build       ## fetch the runtime and the sample model, convert to int4, ask one question
	bin/llama-pajamas-run-onnx setup
	bin/llama-pajamas-quant convert --model "$$(bin/llama-pajamas-run-onnx setup --sample)" --output models/smollm2-135m --target-eps CPU --target-precisions int4 --no-base --force
	echo "What is the capital of France?" | bin/llama-pajamas-run-onnx chat --model models/smollm2-135m/onnx/cpu/int4/model.onnx --backend cpu --temperature 0

comparison: build ## the sample in every format: one page of size, loss, speed and answers
	bin/llama-pajamas-run setup --backend cpu
	bin/llama-pajamas-run setup --backend llama.cpp
	@if [ "$$(uname)" = Darwin ]; then bin/llama-pajamas-run setup --backend mlx; else echo "MLX files are written and not run: without Metal mlx-lm takes minutes for what the others do in seconds"; fi
	bin/llama-pajamas-quant convert --model "$$(bin/llama-pajamas-run-onnx setup --sample)" --output models/comparison --formats gguf,mlx,onnx --target-eps CPU,TensorRT,CoreML --gguf-precision Q8_0,Q4_K_M --no-base --force
	bin/llama-pajamas-quant compare --model models/comparison --quick --rounds 3 --num-questions $(QUESTIONS) --max-tokens 128 --output models/comparison/BENCHMARK_COMPARISON.md

QUESTIONS = 60

test: oracle      ## every test: unit, fuzz seeds, oracles
	LLAMA_PAJAMAS_ORACLE=require $(GO) test -p 2 -timeout 30m ./...

oracle:           ## the reference programs, in an environment of their own
	$(GO) run ./internal/oracle/cmd/oracle-setup

race:             ## the race detector, over the packages with goroutines
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m $(RACE)

RACE = ./convert/... ./infer/... ./llama/... ./autoselect/... ./chat/... ./ort/... ./tokenizer/... ./chattemplate/... ./nativelib/... ./checkpoint/... ./verify/... ./internal/cli/... ./bench ./eval

lint:
	@out="$$(gofmt -l $$(git ls-files '*.go'))"; test -z "$$out" || { echo "gofmt differs in: $$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

cross:            ## every platform builds, without cgo
	@for p in $(PLATFORMS); do echo "build $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/... && GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) vet $(CROSS) || exit 1; done

# Packages with files for one system or processor; a test keeps the list whole.
CROSS = ./cmd/... ./autoselect ./bench ./calibrate ./eval/... ./hardware ./internal/filelock ./internal/mmap ./llama ./nativelib ./ort ./quant/... ./tensor

fuzz:             ## 30 s of each fuzz target
	@for pkg in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 1x $$pkg || exit 1; done; done

bench:            ## Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 1s ./...

bench-peers: build ## speed beside the peers, in paired rounds; not in CI
	$(GO) run ./internal/peers speed

quality: build    ## the quality table on the permuted sample, with the peers; not in CI
	$(GO) run ./internal/peers quality

generate:
	$(GO) generate ./...

release:          ## archives, sums, list of parts and notes, into dist/
	$(GO) run ./internal/release

clean:
	rm -rf bin dist
