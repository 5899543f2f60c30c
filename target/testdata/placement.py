"""Records which provider onnxruntime-gpu gives each node of small models.

    go test -run TestCUDAPlacement -models /tmp/models.json ./target   # fails until recorded
    LD_LIBRARY_PATH=OUT python placement.py /tmp/models.json > cuda-placement.json

Without a GPU, OUT holds the libraries that stubs.sh makes: a session is made, which
decides the placement and builds the kernels, and never run. Each model gets a
process of its own.
"""
import base64
import json
import subprocess
import sys

models = json.load(open(sys.argv[1]))
if len(sys.argv) > 2:
    import onnxruntime as ort

    o = ort.SessionOptions()
    o.log_severity_level = 4
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    o.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # The other rewrites of this level would change the nodes.
    off = ["ConstantSharing", "CommonSubexpressionElimination", "TransposeOptimizer", "PropagateCastOps"]
    s = ort.InferenceSession(base64.b64decode(models[int(sys.argv[2])]["Text"]), o,
                             providers=["CUDAExecutionProvider", "CPUExecutionProvider"], disabled_optimizers=off)
    print(json.dumps({n.name: g.ep_name for g in s.get_provider_graph_assignment_info() for n in g.get_nodes()}))
    sys.exit()
out = {}
for i, m in enumerate(models):
    p = subprocess.run([sys.executable, "-S", __file__, sys.argv[1], str(i)], capture_output=True, text=True)
    try:
        out[m["Name"]] = json.loads(p.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        text = [l for l in p.stderr.splitlines() if "ONNXRuntimeError" in l]
        out[m["Name"]] = {"error": text[-1].split("] : ", 1)[-1][:160].split("/onnxruntime_src")[0] if text else f"exit code {p.returncode}"}
print(json.dumps(out, indent=0, sort_keys=True))
