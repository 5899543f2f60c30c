"""Logits of transformers in float32, for TestTransformers -update.

argv: Hugging Face folders. stdin: JSON list of token ids. stdout: JSON with the
version and, for each folder by its name, the logits of some positions of runs of
some lengths. Runs in the environment of internal/oracle/bench-requirements.txt.
"""
import json
import pathlib
import sys

import torch
import transformers

RUNS = {"40": [39], "100": [20, 99]}

tokens = json.load(sys.stdin)
out = {"transformers": transformers.__version__, "runs": {}}
for arg in sys.argv[1:]:
    model = transformers.AutoModelForCausalLM.from_pretrained(arg, dtype=torch.float32, attn_implementation="eager")
    runs = {}
    with torch.no_grad():
        for n, positions in RUNS.items():
            logits = model(torch.tensor([tokens[: int(n)]])).logits[0]
            runs[n] = {str(p): [float(f"{v:.6g}") for v in logits[p].tolist()] for p in positions}
    out["runs"][pathlib.Path(arg).name] = runs
json.dump(out, sys.stdout, separators=(",", ":"))
