"""llama.cpp v0.5.0 as a peer, through its C API.

argv: folder of the libraries, mode, GGUF file, then by mode
  quantize OUT FTYPE THREADS [IMATRIX]
                                  llama_model_quantize, FTYPE as in llama.h; IMATRIX is what
                                  imatrix.py wrote
  logits WINDOW THREADS           stdin: int32 token ids; stdout: float32 logits [ids, vocab],
                                  each window of ids a sequence of its own
  speed PROMPT N THREADS FLASH    the speed protocol (speed.go); PROMPT a JSON list of ids,
                                  FLASH 0 or 1
Runs behind internal/oracle/llamacpp.py.
"""
import json
import pathlib
import time


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
        self.batch.fill(ids, start, every)
        if rc := self.lib.llama_decode(self.ctx, self.batch):
            sys.exit(f"llama_decode: {rc}")

    def last(self):
        return np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.ctx, -1), (self.vocab,))


def quantize(lib, source, out, ftype, threads, imatrix=None):
    p = lib.llama_model_quantize_default_params()
    p.ftype, p.nthread = int(ftype), int(threads)
    if imatrix:
        rows = {k.encode(): np.ascontiguousarray(v, np.float32) for k, v in np.load(imatrix).items()}
        list_ = (ImatrixData * (len(rows) + 1))(*((k, v.ctypes.data_as(c.POINTER(f32)), v.size) for k, v in rows.items()))
        p.imatrix = c.cast(list_, ptr)
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
