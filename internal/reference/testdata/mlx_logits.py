"""Logits of mlx-lm in float32 on the CPU.

argv: Hugging Face folders. stdin: JSON list of token ids. stdout: for each
folder the logits of every position, float32 little-endian, [tokens, vocab].
"""
import json
import pathlib
import sys
import tempfile

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)


def flatten(config):
    """Puts the keys where mlx-lm looks: at the root, as transformers 4 did."""
    config = {**config.get("text_config", {}), **{k: v for k, v in config.items() if k != "text_config"}}
    if rope := config.pop("rope_parameters", None):
        config["rope_theta"] = rope["rope_theta"]
        if rope["rope_type"] != "default":
            config["rope_scaling"] = rope
    return config


def folder(path):
    """A folder of links to the weights, beside a flat config."""
    out = pathlib.Path(tempfile.mkdtemp(dir=path))
    config = json.loads((path / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(flatten(config)))
    for f in path.glob("model*.safetensors"):
        (out / f.name).symlink_to(f)
    return out


tokens = mx.array([json.load(sys.stdin)])
for arg in sys.argv[1:]:
    model, _ = load_model(folder(pathlib.Path(arg)))
    model.set_dtype(mx.float32)
    if "MistralForCausalLM" in json.loads((pathlib.Path(arg) / "config.json").read_text())["architectures"]:
        # mlx-lm has it as a llama, which slides only where some layer does not.
        model.model.swa_idx = 0
        for layer in model.model.layers:
            layer.use_sliding = True
    logits = np.array(model(tokens)[0].astype(mx.float32))
    sys.stdout.buffer.write(logits.astype("<f4").tobytes())
