"""llama.cpp v0.5.0 as a peer, through its C API.

argv: folder of the libraries, mode, GGUF file, then by mode
  quantize OUT FTYPE THREADS      llama_model_quantize, FTYPE as in llama.h
  logits WINDOW THREADS           stdin: int32 token ids; stdout: float32 logits [ids, vocab],
                                  each window of ids a sequence of its own
  speed PROMPT N THREADS FLASH    the speed protocol (speed.go); PROMPT a JSON list of ids,
                                  FLASH 0 or 1
Structs are those of llama.h v0.5.0.
"""
import ctypes as c
import json
import pathlib
import sys
import time

import numpy as np

f32, i32, u32, ptr, flag = c.c_float, c.c_int32, c.c_uint32, c.c_void_p, c.c_bool


def struct(name, *fields):
    """fields: "type name name ..." """
    types = {"f32": f32, "i32": i32, "u32": u32, "ptr": ptr, "bool": flag, "size": c.c_size_t}
    list_ = [(n, types[line.split()[0]]) for line in fields for n in line.split()[1:]]
    return type(name, (c.Structure,), {"_fields_": list_})


ModelParams = struct(
    "ModelParams", "ptr devices tensor_buft_overrides", "i32 n_gpu_layers split_mode load_mode lazy_mode main_gpu",
    "ptr tensor_split progress_callback progress_callback_user_data kv_overrides",
    "bool vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp")
ContextParams = struct(
    "ContextParams", "u32 n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq",
    "i32 n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type flash_attn_type",
    "f32 rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow",
    "u32 yarn_orig_ctx", "f32 defrag_thold", "ptr cb_eval cb_eval_user_data", "i32 type_k type_v",
    "ptr abort_callback abort_callback_data", "bool embeddings offload_kqv no_perf op_offload swa_full kv_unified",
    "ptr samplers", "size n_samplers", "ptr ctx_other")
QuantizeParams = struct(
    "QuantizeParams", "i32 nthread ftype output_tensor_type token_embedding_type",
    "bool allow_requantize quantize_output_tensor only_copy pure keep_split dry_run",
    "ptr imatrix kv_overrides tt_overrides prune_layers", "size max_buf_size")


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", i32), ("token", c.POINTER(i32)), ("embd", c.POINTER(f32)), ("pos", c.POINTER(i32)),
        ("n_seq_id", c.POINTER(i32)), ("seq_id", c.POINTER(c.POINTER(i32))), ("logits", c.POINTER(c.c_int8))]


@c.CFUNCTYPE(None, c.c_int, c.c_char_p, ptr)
def quiet(level, text, _):
    if level >= 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode(errors="replace"))


def load_library(folder):
    ggml = c.CDLL(str(folder / "libggml.so"), mode=c.RTLD_GLOBAL)
    lib = c.CDLL(str(folder / "libllama.so"))
    lib.llama_log_set(quiet, None)
    # Picks the libggml-cpu-*.so made for this processor.
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    lib.llama_version.restype = c.c_char_p
    if not (version := lib.llama_version()).startswith(b"0.5.0"):  # the release says 0.5.0-dev
        sys.exit(f"llama.cpp {version}: the structs here are those of 0.5.0")
    for name, result, args in [
        ("llama_model_default_params", ModelParams, []), ("llama_context_default_params", ContextParams, []),
        ("llama_model_quantize_default_params", QuantizeParams, []),
        ("llama_model_quantize", u32, [c.c_char_p, c.c_char_p, c.POINTER(QuantizeParams)]),
        ("llama_model_load_from_file", ptr, [c.c_char_p, ModelParams]), ("llama_init_from_model", ptr, [ptr, ContextParams]),
        ("llama_model_get_vocab", ptr, [ptr]), ("llama_vocab_n_tokens", i32, [ptr]),
        ("llama_get_memory", ptr, [ptr]), ("llama_memory_clear", None, [ptr, flag]),
        ("llama_batch_init", Batch, [i32, i32, i32]), ("llama_decode", i32, [ptr, Batch]),
        ("llama_get_logits_ith", c.POINTER(f32), [ptr, i32]), ("llama_get_logits", c.POINTER(f32), [ptr]),
    ]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    return lib


class Model:
    """One model and one context; a sequence at a time."""

    def __init__(self, lib, path, context, threads, flash):
        self.lib = lib
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        p = lib.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = context, 512, 512
        p.n_threads = p.n_threads_batch = threads
        p.flash_attn_type = flash  # -1 auto, 0 off, 1 on
        self.ctx = lib.llama_init_from_model(self.model, p)
        if not self.ctx:
            sys.exit(f"llama.cpp makes no context for {path}")
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.batch = lib.llama_batch_init(512, 0, 1)

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.ctx), False)

    def decode(self, ids, start, every):
        """Evaluates up to 512 ids; logits of each with every, else of the last."""
        b = self.batch
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = t, start + i, 1, 0
            b.logits[i] = every or i == len(ids) - 1
        if rc := self.lib.llama_decode(self.ctx, b):
            sys.exit(f"llama_decode: {rc}")

    def last(self):
        return np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.ctx, -1), (self.vocab,))


def quantize(lib, source, out, ftype, threads):
    p = lib.llama_model_quantize_default_params()
    p.ftype, p.nthread = int(ftype), int(threads)
    if rc := lib.llama_model_quantize(source.encode(), out.encode(), c.byref(p)):
        sys.exit(f"llama_model_quantize: {rc}")


def logits(lib, path, window, threads):
    window = int(window)
    ids = np.frombuffer(sys.stdin.buffer.read(), "<i4").tolist()
    m = Model(lib, path, window, int(threads), -1)
    for at in range(0, len(ids), window):
        m.clear()
        for chunk in range(at, min(at + window, len(ids)), 512):
            part = ids[chunk:min(chunk + 512, at + window)]
            m.decode(part, chunk - at, True)
            rows = np.ctypeslib.as_array(lib.llama_get_logits(m.ctx), (len(part), m.vocab))
            sys.stdout.buffer.write(rows.tobytes())


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def speed(lib, path, prompt, n, threads, flash):
    ids, n = json.loads(pathlib.Path(prompt).read_text()), int(n)

    def once(report):
        m.clear()
        start = time.perf_counter()
        for at in range(0, len(ids), 512):
            m.decode(ids[at:at + 512], at, False)
        out = [int(m.last().argmax())]
        first = time.perf_counter()
        while len(out) < n:
            m.decode(out[-1:], len(ids) + len(out) - 1, False)
            out.append(int(m.last().argmax()))
        end = time.perf_counter()
        report |= {"prefill_seconds": first - start, "decode_seconds": end - first, "decoded": n - 1, "peak_rss": peak(), "ids": out}
        return first, report

    begin = time.perf_counter()
    m = Model(lib, path, len(ids) + n, int(threads), int(flash))
    loaded = time.perf_counter()
    first, report = once({})
    print(json.dumps(report | {"load_seconds": loaded - begin, "first_token_seconds": first - begin}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once({})[1]), flush=True)


lib = load_library(pathlib.Path(sys.argv[1]))
{"quantize": quantize, "logits": logits, "speed": speed}[sys.argv[2]](lib, *sys.argv[3:])
