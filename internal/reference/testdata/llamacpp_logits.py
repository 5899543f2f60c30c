"""Logits and greedy tokens of llama.cpp v0.5.0 in float32.

argv: folder of the libraries, number of greedy steps, Hugging Face folders.
stdin: JSON list of token ids. stdout: for each folder the logits of every
position, float32 little-endian, [tokens, vocab], then the greedy ids that
follow, int32.

Each checkpoint goes through a GGUF file of float32 tensors; key and tensor
names are those of llama.cpp's converter. Runs behind internal/oracle/llamacpp.py.
"""
import json
import pathlib

import gguf
import ml_dtypes


def read_tensors(folder):
    """Every tensor as float32, read by hand: numpy has no bfloat16."""
    types = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
    out = {}
    for file in sorted(folder.glob("model*.safetensors")):
        b = file.read_bytes()
        n = int.from_bytes(b[:8], "little")
        for name, t in json.loads(b[8:8 + n]).items():
            if name != "__metadata__":
                lo, hi = t["data_offsets"]
                out[name] = np.frombuffer(b[8 + n + lo:8 + n + hi], types[t["dtype"]]).astype(np.float32).reshape(t["shape"])
    return out


def interleave(w, heads):
    """Rows of each head from half-rotated to consecutive pairs."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def rope_factors(rope, theta, dim):
    """What llama3 scaling divides each frequency by."""
    old, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    wave = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    s = (old / wave - low) / (high - low)
    f = np.where(wave < old / high, 1, np.where(wave > old / low, rope["factor"], 1 / ((1 - s) / rope["factor"] + s)))
    return f.astype(np.float32)


NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def write_gguf(folder, path):
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    arch, hidden, heads = config["model_type"], config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    dim = config.get("head_dim", hidden // heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.get("rope_theta", rope.get("rope_theta"))
    kind = rope.get("rope_type", rope.get("type", "default"))

    w = gguf.GGUFWriter(path, arch)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(hidden)
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(dim)
    w.add_value_length(dim)
    w.add_rope_dimension_count(dim)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(theta)
    w.add_vocab_size(config["vocab_size"])
    w.add_tokenizer_model("none")
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if kind == "llama3":
        w.add_tensor("rope_freqs.weight", rope_factors(rope, theta, dim))
    for name, t in read_tensors(folder).items():
        if name.endswith("inv_freq"):
            continue
        if arch == "llama" and (".q_proj." in name or ".k_proj." in name):
            t = interleave(t, heads if ".q_proj." in name else kv_heads)
        w.add_tensor(gguf_name(name), np.ascontiguousarray(t))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return config["vocab_size"]


def decode(lib, ctx, tokens, start, vocab):
    """Logits of every position, [tokens, vocab]."""
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.fill(tokens, start, True)
    if rc := lib.llama_decode(ctx, batch):
        sys.exit(f"llama_decode: {rc}")
    out = np.stack([np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, i), (vocab,)).copy() for i in range(len(tokens))])
    lib.llama_batch_free(batch)
    return out


def main():
    lib = load_library(pathlib.Path(sys.argv[1]))
    steps = int(sys.argv[2])
    tokens = json.load(sys.stdin)
    for arg in sys.argv[3:]:
        path = pathlib.Path(arg) / "f32.gguf"
        vocab = write_gguf(pathlib.Path(arg), path)
        params = lib.llama_model_default_params()
        params.use_extra_bufts = False
        model = lib.llama_model_load_from_file(str(path).encode(), params)
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = 1  # threads wait longer than they work
        params.flash_attn_type = 0  # off: it would round to float16
        params.type_k = params.type_v = 0  # float32
        ctx = lib.llama_init_from_model(model, params)
        if not ctx:
            sys.exit(f"llama.cpp does not load {path}")
        logits = decode(lib, ctx, tokens, 0, vocab)
        sys.stdout.buffer.write(logits.astype("<f4").tobytes())
        ids = [int(logits[-1].argmax())]
        while len(ids) < steps:
            ids.append(int(decode(lib, ctx, ids[-1:], len(tokens) + len(ids) - 1, vocab)[0].argmax()))
        sys.stdout.buffer.write(np.array(ids, "<i4").tobytes())
        lib.llama_free(ctx)
        lib.llama_model_free(model)


main()
