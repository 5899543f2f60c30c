"""Renders templates with the Jinja environment of Hugging Face transformers.

Reads one JSON object from standard input and writes one to standard output:
in:  {"now": ISO time, "cases": [{"source", "vars", "chat": bool}]}
out: {"jinja": version, "transformers": version,
      "results": [{"out": text} or {"error": class name, "message": text}]}
With chat, vars are the arguments of render_jinja_template, which prepares the
messages; else they are given to the template as they are.
"""
import json
import sys
from datetime import datetime

import jinja2
import transformers
from transformers.utils import chat_template_utils as ctu

job = json.load(sys.stdin)
now = datetime.fromisoformat(job["now"])


class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return now


ctu.datetime = Clock


def render(case):
    variables = dict(case["vars"])
    try:
        if case.get("chat"):
            messages = variables.pop("messages")
            messages = ctu._normalize_chat_messages(messages)
            out, _ = ctu.render_jinja_template(
                conversations=[messages], chat_template=case["source"], **variables
            )
            out = out[0]
        else:
            out = ctu._compile_jinja_template(case["source"]).render(**variables)
        out.encode()
        return {"out": out}
    except Exception as e:
        return {"error": type(e).__name__, "message": str(e)}


json.dump(
    {
        "jinja": jinja2.__version__,
        "transformers": transformers.__version__,
        "results": [render(c) for c in job["cases"]],
    },
    sys.stdout,
)
