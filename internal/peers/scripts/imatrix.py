"""An importance matrix for llama.cpp: mean x² of every input channel of every
linear layer but the head, of the float32 model.

argv: Hugging Face folder of a Llama, tokens, window, file to write (npz of
float32 vectors by llama.cpp's tensor names); stdin: text. The text's first
tokens are run in windows. What llama.cpp's own tool collects is the same, as a
sum; it leaves out the head too. Input channels are in Hugging Face's order,
which is that of llama.cpp's tensors: the converter reorders rows of q and k
alone.
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
import transformers

folder, tokens, window, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
         "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
sums, seen = {}, {}


def observe(name):
    def hook(_, inputs):
        x = inputs[0].flatten(0, -2).double()
        sums[name] = sums.get(name, 0) + x.square().sum(0)
        seen[name] = seen.get(name, 0) + len(x)
    return hook


model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
for path, module in model.named_modules():
    part = path.split(".")
    if part[-1] in names:  # model.layers.N.self_attn.q_proj
        module.register_forward_pre_hook(observe(f"blk.{part[2]}.{names[part[-1]]}.weight"))
ids = transformers.AutoTokenizer.from_pretrained(folder)(sys.stdin.read(), add_special_tokens=False)["input_ids"]
if len(ids) < tokens:
    sys.exit(f"the text has {len(ids)} tokens, {tokens} are wanted")
with torch.no_grad():
    for at in range(0, tokens, window):
        model.model(torch.tensor([ids[at:min(at + window, tokens)]]))
assert len(sums) == 7 * model.config.num_hidden_layers, sorted(sums)
with open(out, "wb") as f:  # a name would get a suffix
    np.savez(f, **{k: (v / seen[k]).float().numpy() for k, v in sums.items()})
