"""Runs mlx_lm.convert.

stdin: JSON list of jobs {src, dst, bits, group, recipe, dtype}; bits 0 writes
floats. A config that mlx-lm does not read (text_config, rope_parameters) is
flattened in a copy first.
"""
import contextlib
import json
import pathlib
import sys
import tempfile

import mlx.core as mx
from mlx_lm.convert import convert

mx.set_default_device(mx.cpu)


def flattened(path):
    config = json.loads((path / "config.json").read_text())
    if "text_config" not in config and "rope_parameters" not in config:
        return path
    config = {**{k: v for k, v in config.items() if k != "text_config"}, **config.get("text_config", {})}
    if rope := config.pop("rope_parameters", None):
        config["rope_theta"] = rope["rope_theta"]
        if rope["rope_type"] != "default":
            config["rope_scaling"] = rope
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    out = pathlib.Path(tempfile.mkdtemp(dir=path.parent))
    for f in path.iterdir():
        if f.name != "config.json":
            (out / f.name).symlink_to(f)
    (out / "config.json").write_text(json.dumps(config))
    return out


for job in json.load(sys.stdin):
    kwargs = {}
    if job["bits"]:
        kwargs = dict(quantize=True, q_bits=job["bits"], q_group_size=job["group"], quant_predicate=job["recipe"] or None)
    with contextlib.redirect_stdout(sys.stderr):
        convert(str(flattened(pathlib.Path(job["src"]))), job["dst"], dtype=job["dtype"] or None, **kwargs)
