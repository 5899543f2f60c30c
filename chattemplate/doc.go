// Package chattemplate renders the chat templates that models ship: Jinja
// source from tokenizer_config.json, chat_template.jinja or a GGUF key, applied
// to a list of messages, giving the prompt text.
//
// The language is Jinja2 3.1.6 as Hugging Face transformers 5.24 sets it up
// (utils/chat_template_utils.py): an immutable sandbox with trim_blocks,
// lstrip_blocks and loop controls, the generation tag, a tojson that is
// Python's json.dumps, raise_exception and strftime_now. Values follow Python:
// str, int, float, bool, None, list, tuple, dict in insertion order, with
// Python's printing, comparison, slicing and string methods. The same source
// and values give the same bytes as Jinja2, or an error where Jinja2 raises.
//
// Not here: template inheritance and loading (extends, block, include, import
// are refused by name), autoescape, translation, integers wider than 64 bits in
// arithmetic, set operations on dict views, the filters random, urlize, pprint,
// wordwrap and xmlattr, str.encode and str.translate, and lipsum. Beyond Jinja2
// as set up, the do tag is known. Jinja2 computes constants when it compiles,
// where slicing what has no items ({{ 5[1:] }}) gives Undefined; here it is the
// error that it is elsewhere.
//
// Templates come from strangers. [Options] bounds the steps, memory, output,
// call depth and time of one render; going over is a [LimitError].
//
// How it works: lexer.go and parser.go make a tree, scope.go gives every name
// a slot by Jinja's own scoping rules, and exec.go and eval.go walk the tree
// over activation records.
//
// A [Template] is immutable and may be rendered from many goroutines at once.
// Values passed in are only read; a [Dict] must not be changed meanwhile.
package chattemplate
