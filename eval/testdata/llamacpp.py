"""Log-likelihoods and perplexity by llama.cpp v0.5.0 in float32.

argv: folder of the libraries, GGUF file. stdin: JSON {"pairs": [[context ids,
continuation ids], ...], "tokens": text ids, "window": n, "bos": id or -1}.
stdout: JSON {"pairs": [[log-likelihood, greedy], ...], "perplexity": p, "error":
e, "count": n}. The perplexity follows perplexity() of
tools/perplexity/perplexity.cpp. Runs behind internal/oracle/llamacpp.py.
"""
import json
import pathlib


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))


def main():
    lib = load_library(pathlib.Path(sys.argv[1]))
    request = json.load(sys.stdin)
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    model = lib.llama_model_load_from_file(sys.argv[2].encode(), params)
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = 0  # off: it would round to float16
    params.type_k = params.type_v = 0  # float32
    ctx = lib.llama_init_from_model(model, params)
    if not ctx:
        sys.exit("llama.cpp does not load the model")

    def forward(ids):
        lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.fill(ids, 0, True)
        if rc := lib.llama_decode(ctx, batch):
            sys.exit(f"llama_decode: {rc}")
        rows = np.stack([np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, i), (vocab,)).copy() for i in range(len(ids))])
        lib.llama_batch_free(batch)
        return log_softmax(rows)

    pairs = []
    for context, continuation in request["pairs"]:
        rows = forward((context + continuation)[:-1])[len(context) - 1:]
        pairs.append([float(sum(row[t] for row, t in zip(rows, continuation))),
                      all(int(row.argmax()) == t for row, t in zip(rows, continuation))])

    tokens, n, bos = request["tokens"], request["window"], request["bos"]
    losses = []
    for start in range(0, len(tokens) - n + 1, n):
        window = tokens[start:start + n]
        rows = forward([bos if bos >= 0 else window[0]] + window[1:])
        losses += [-rows[i][window[i + 1]] for i in range(n // 2, n - 1)]
    losses = np.array(losses)
    count = len(losses)
    mean = losses.sum() / count
    spread = (losses ** 2).sum() / count - mean ** 2
    p = float(np.exp(mean))
    json.dump({"pairs": pairs, "perplexity": p, "error": float(np.sqrt(spread / (count - 1)) * p), "count": count}, sys.stdout)


main()
