#!/usr/bin/env bash
# Converts a checkpoint to 4 bits for the CPU and asks it one question.
# usage: run.sh MODEL OUTPUT QUESTION
set -euo pipefail
model=${1:?a Hugging Face id, a folder or a GGUF file}
output=${2:?the folder to write}
question=${3:?what to ask}

llama-pajamas-quant convert --model "$model" --output "$output" \
	--target-eps CPU --target-precisions int4 --no-base >&2
llama-pajamas-run chat --model "$output" --temperature 0 --max-tokens 100 <<<"$question"
