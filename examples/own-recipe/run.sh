#!/usr/bin/env bash
# Converts a checkpoint with the recipe beside this script and with two built-in
# ones, and compares what they cost.
# usage: run.sh MODEL OUTPUT
set -euo pipefail
model=${1:?a Hugging Face id, a folder or a GGUF file}
output=${2:?the folder to write}
here=$(dirname "$0")

llama-pajamas-quant convert --model "$model" --output "$output" \
	--target-eps CPU --recipe int4,int8,"$here/values8.json"
llama-pajamas-quant compare "$output" --quick --rounds 0
