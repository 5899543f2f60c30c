"""llama.cpp v0.5.0 through its C API: structs, prototypes, loading.

A script that uses it is put behind it (Go: oracle.LlamaCppModule + script).
Structs are those of llama.h v0.5.0; another version of the library is refused.
"""
import ctypes as c
import sys

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


class ImatrixData(c.Structure):
    """One tensor of an importance matrix; a list ends with a null name."""
    _fields_ = [("name", c.c_char_p), ("data", c.POINTER(f32)), ("size", c.c_size_t)]


class Batch(c.Structure):
    _fields_ = [
        ("n_tokens", i32), ("token", c.POINTER(i32)), ("embd", c.POINTER(f32)), ("pos", c.POINTER(i32)),
        ("n_seq_id", c.POINTER(i32)), ("seq_id", c.POINTER(c.POINTER(i32))), ("logits", c.POINTER(c.c_int8))]

    def fill(self, ids, start, every):
        """ids of sequence 0 from position start; logits of each with every, else of the last."""
        self.n_tokens = len(ids)
        for i, t in enumerate(ids):
            self.token[i], self.pos[i], self.n_seq_id[i], self.seq_id[i][0] = t, start + i, 1, 0
            self.logits[i] = every or i == len(ids) - 1


@c.CFUNCTYPE(None, c.c_int, c.c_char_p, ptr)
def errors_only(level, text, _):
    if level >= 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode(errors="replace"))


def load_library(folder):
    ggml = c.CDLL(str(folder / "libggml.so"), mode=c.RTLD_GLOBAL)
    lib = c.CDLL(str(folder / "libllama.so"))
    lib.llama_log_set(errors_only, None)
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
        ("llama_model_free", None, [ptr]), ("llama_free", None, [ptr]),
        ("llama_model_get_vocab", ptr, [ptr]), ("llama_vocab_n_tokens", i32, [ptr]),
        ("llama_get_memory", ptr, [ptr]), ("llama_memory_clear", None, [ptr, flag]),
        ("llama_batch_init", Batch, [i32, i32, i32]), ("llama_batch_free", None, [Batch]), ("llama_decode", i32, [ptr, Batch]),
        ("llama_get_logits_ith", c.POINTER(f32), [ptr, i32]), ("llama_get_logits", c.POINTER(f32), [ptr]),
    ]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    return lib


