package chattemplate

import (
	"context"
	"time"
	"unicode/utf8"
)

// maxSource is the longest template source Parse takes, in bytes.
const maxSource = 1 << 20

// Template is a parsed chat template.
type Template struct {
	name   string
	source string
	body   []stmt
	fn     *function
	frame  frame
}

// Parse parses the source of a template. The name is used in errors only.
// Syntax errors are an [*Error] with the line; a template that needs other
// templates is a tensor.UnsupportedError.
func Parse(name, source string) (*Template, error) {
	if len(source) > maxSource {
		return nil, &LimitError{Template: name, What: "bytes of source", Limit: maxSource}
	}
	if !utf8.ValidString(source) {
		return nil, &Error{Template: name, Kind: kindSyntax, Msg: "the source is not valid UTF-8"}
	}
	body, err := parse(source)
	if err != nil {
		return nil, atLine(err, name, 0)
	}
	fn, frame, err := resolve(body)
	if err != nil {
		return nil, atLine(err, name, 0)
	}
	return &Template{name: name, source: source, body: body, fn: fn, frame: frame}, nil
}

// Name returns the name given to Parse.
func (t *Template) Name() string { return t.name }

// Source returns the source given to Parse.
func (t *Template) Source() string { return t.source }

// Render renders the template with the given variables (nil for none). The
// error is an [*Error] where Jinja2 would raise, a [*LimitError] where a limit
// of o is met, or ctx's error.
func (t *Template) Render(ctx context.Context, vars *Dict, o Options) (string, error) {
	if vars == nil {
		vars = NewDict()
	}
	o = o.withDefaults()
	r := &run{
		ctx: ctx, opts: o, tmpl: t, vars: vars, globals: globals(),
		deadline: time.Now().Add(o.Timeout),
	}
	a := r.activate(t.fn, nil)
	a.enter(&t.frame)
	text, _, err := a.capture(t.body)
	if err != nil {
		return "", atLine(err, t.name, 0)
	}
	return text, nil
}
