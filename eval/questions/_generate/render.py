"""Writes the requests of the 120 questions as lm-evaluation-harness renders them,
for the tests:

    pip download --no-deps lm_eval==0.4.13 && unzip lm_eval-*.whl -d REFERENCE
    pip install jinja2 pyyaml
    python render.py REFERENCE ../data ../exemplars.go ../testdata

prompts.json: for each question the sha256 of its requests, context and
continuation apart. prompts/SOURCE.json: the first three of each source in full.
numbers.json: what the filters and the metric of gsm8k.yaml make of some answers.

The prompt templates are those of the tasks' YAML files, rendered by Jinja with
the harness's settings; around them stand its rules for a multiple_choice task
(lm_eval/api/task.py): description, few-shot examples with a blank before the
answer and an empty line behind, a blank before each choice.
"""

import hashlib
import importlib.util
import json
import os
import re
import sys
import types

import jinja2
import yaml

reference, data, exemplars, out = sys.argv[1:]
tasks = os.path.join(reference, "lm_eval", "tasks")
env = jinja2.Environment(loader=jinja2.BaseLoader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def module(path):
    spec = importlib.util.spec_from_file_location("m", path)
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


def task(path):
    """A task's YAML with what it includes; functions become (file, name)."""

    class Loader(yaml.SafeLoader):
        pass

    folder = os.path.dirname(path)
    Loader.add_constructor("!function", lambda l, node: tuple(l.construct_scalar(node).rsplit(".", 1)))
    with open(path, encoding="utf-8") as f:
        t = yaml.load(f, Loader)
    base = task(os.path.join(folder, t.pop("include"))) if "include" in t else {}
    return base | t | {"folder": folder}


def text(t, key, doc):
    """One of doc_to_text, doc_to_target, doc_to_choice for a document."""
    v = t[key]
    if isinstance(v, tuple):
        return getattr(module(os.path.join(t["folder"], v[0] + ".py")), v[1])(doc)
    if isinstance(v, list):
        return v
    if v in doc:
        return doc[v]
    s = env.from_string(v).render(**doc)
    return yaml.safe_load(s) if key == "doc_to_choice" else s


# The few-shot examples of gsm8k, in the source's form.
with open(exemplars, encoding="utf-8") as f:
    block = f.read().split("`")[1]
shots = [dict(zip(("question", "answer"), s.removeprefix("Question: ").split("\nAnswer: "))) for s in block.strip().split("\n\n")]
assert len(shots) == 5


def requests(source, row):
    if source == "mmlu":
        t = task(os.path.join(tasks, "mmlu", "default", f"mmlu_{row['subject']}.yaml"))
        context = t["description"] + text(t, "doc_to_text", row)
        return [(context, " " + c) for c in text(t, "doc_to_choice", row)]
    if source in ("arc_challenge", "openbookqa"):
        t = task(os.path.join(tasks, *{"arc_challenge": ("arc", "arc_challenge.yaml"), "openbookqa": ("openbookqa", "openbookqa.yaml")}[source]))
        labels = "ABCD"
        doc = {"question": row["question"], "question_stem": row["question"], "choices": {"text": row["choices"], "label": list(labels)}, "answerKey": labels[row["answer"]]}
        assert int(text(t, "doc_to_target", doc)) == row["answer"]
        return [(text(t, "doc_to_text", doc), " " + c) for c in row["choices"]]
    if source == "winogrande":
        t = task(os.path.join(tasks, "winogrande", "default.yaml"))
        return [(c, " " + text(t, "doc_to_target", row)) for c in text(t, "doc_to_choice", row)]
    if source == "gsm8k":
        t = task(os.path.join(tasks, "gsm8k", "gsm8k.yaml"))
        few = "".join(text(t, "doc_to_text", s) + " " + text(t, "doc_to_target", s) + "\n\n" for s in shots)
        return [(few + text(t, "doc_to_text", row), row["answer"].split("#### ")[1])]
    if source == "humaneval":
        t = task(os.path.join(tasks, "humaneval", "humaneval.yaml"))
        # The program of code_eval: candidate, a line feed, the reference.
        prompt = text(t, "doc_to_text", row)
        return [(prompt, prompt + row["canonical_solution"] + "\n" + text(t, "doc_to_target", row))]
    t = task(os.path.join(tasks, "ifeval", "ifeval.yaml"))
    return [(text(t, "doc_to_text", row), "")]


def sha(s):
    return hashlib.sha256(s.encode()).hexdigest()


hashes = {}
os.makedirs(os.path.join(out, "prompts"), exist_ok=True)
for source in ("mmlu", "arc_challenge", "gsm8k", "humaneval", "openbookqa", "winogrande", "ifeval"):
    full = {}
    with open(os.path.join(data, source + ".jsonl"), encoding="utf-8") as f:
        for line in f:
            q = json.loads(line)
            r = requests(source, q["row"])
            hashes[q["id"]] = [[sha(a), sha(b)] for a, b in r]
            if len(full) < 3:
                full[q["id"]] = r
    with open(os.path.join(out, "prompts", source + ".json"), "w", encoding="utf-8") as f:
        json.dump(full, f, ensure_ascii=False, indent=1)
        f.write("\n")
with open(os.path.join(out, "prompts.json"), "w", encoding="utf-8") as f:
    json.dump(hashes, f, indent=0)
    f.write("\n")

# Numbers: the filters of gsm8k.yaml by the harness's own class.
for name in ("lm_eval", "lm_eval.api", "lm_eval.filters"):
    m = types.ModuleType(name)
    m.__path__ = [os.path.join(reference, *name.split("."))]
    sys.modules[name] = m
registry = types.ModuleType("lm_eval.api.registry")
registry.register_filter = lambda name: lambda c: c
sys.modules["lm_eval.api.registry"] = registry
from lm_eval.filters.extraction import RegexFilter  # noqa: E402

t = task(os.path.join(tasks, "gsm8k", "gsm8k.yaml"))
filters = {}
for f in t["filter_list"]:
    filters[f["name"]] = RegexFilter(**{k: v for k, v in f["filter"][0].items() if k != "function"})
metric = t["metric_list"][0]


def exact(a, b):
    """exact_match of lm_eval/api/metrics.py with the task's settings."""
    for r in metric["regexes_to_ignore"]:
        a, b = re.sub(r, "", a), re.sub(r, "", b)
    return a.lower() == b.lower()


cases = []
for answer, gold in [
    (" She sells 9 eggs.\n#### 18", "18"),
    (" She sells 9 eggs.\n#### 18.", "18"),
    (" #### 70,000", "70000"),
    (" #### $70,000", "70000"),
    (" The answer is $70,000.", "70000"),
    (" The answer is 70000.0", "70000"),
    (" The profit is -5.", "-5"),
    (" #### -5\n\nThen 7", "-5"),
    (" It costs 18 dollars, not 20.", "18"),
    (" It costs 20 dollars, not 18.", "18"),
    (" none at all", "18"),
    (" eighteen...", "18"),
    ("", "18"),
    (" 5", "5"),
    (" x=5", "5"),
    (" 1/2", "2"),
    (" 3 - 5", "5"),
    (" 3 -5", "5"),
    (" $$ 18 ,, ", "18"),
    (" #### 18 #### 19", "18"),
    (" #### abc 18", "18"),
    (" <<2*9=18>>18 apples", "18"),
    (" 18%", "18"),
    (" 1,018", "1,018"),
    (" ٣ then 4", "4"),
]:
    row = {"text": answer, "gold": gold}
    for name, f in filters.items():
        got = f.apply([[answer]], [{}])[0][0]
        row[name] = exact(got, "…\n#### " + gold)
    cases.append(row)
with open(os.path.join(out, "numbers.json"), "w", encoding="utf-8") as f:
    f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
