package chattemplate

import (
	"fmt"
)

// Error is a failure of a template: a syntax error found by [Parse], or an
// error while rendering, where Jinja2 would have raised an exception.
type Error struct {
	// Template is the name given to Parse.
	Template string
	// Line is the 1-based line in the template source, 0 where not known.
	Line int
	// Kind is the name of the exception that Jinja2 raises in this place, such
	// as TemplateSyntaxError, UndefinedError, SecurityError or TypeError.
	// TemplateError is a call of raise_exception by the template itself.
	Kind string
	// Msg is the message; for raise_exception, the template's own words.
	Msg string
}

func (e *Error) Error() string {
	place := "chat template"
	if e.Template != "" {
		place += " " + e.Template
	}
	if e.Line > 0 {
		place = fmt.Sprintf("%s, line %d", place, e.Line)
	}
	if e.Kind == kindRaised {
		return place + " refused the conversation: " + e.Msg
	}
	return place + ": " + e.Kind + ": " + e.Msg
}

// Raised reports whether the template itself raised the error, by calling
// raise_exception: the conversation is not one it can render.
func (e *Error) Raised() bool { return e.Kind == kindRaised }

// LimitError says that a template ran over one of the limits in [Options], or
// that its nesting is deeper than the engine allows.
type LimitError struct {
	Template string
	Line     int
	// What names the limit, such as "steps".
	What string
	// Limit is its value; seconds for the time.
	Limit float64
}

func (e *LimitError) Error() string {
	place := "chat template"
	if e.Template != "" {
		place += " " + e.Template
	}
	if e.Line > 0 {
		place = fmt.Sprintf("%s, line %d", place, e.Line)
	}
	return fmt.Sprintf("%s: stopped: it goes over the limit of %v %s", place, e.Limit, e.What)
}

const (
	kindSyntax    = "TemplateSyntaxError"
	kindAssertion = "TemplateAssertionError"
	kindRuntime   = "TemplateRuntimeError"
	kindUndefined = "UndefinedError"
	kindSecurity  = "SecurityError"
	kindRaised    = "TemplateError"
	kindFilterArg = "FilterArgumentError"
	kindType      = "TypeError"
	kindValue     = "ValueError"
	kindIndex     = "IndexError"
	kindKey       = "KeyError"
	kindOverflow  = "OverflowError"
	kindZeroDiv   = "ZeroDivisionError"
	kindRecursion = "RecursionError"
)

func errf(kind, format string, args ...any) error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

func typeErr(format string, args ...any) error  { return errf(kindType, format, args...) }
func valueErr(format string, args ...any) error { return errf(kindValue, format, args...) }

// errIntRange is returned where Python would go on with a wider integer.
func errIntRange() error {
	return errf(kindOverflow, "integer outside the 64-bit range that this engine computes with")
}

// atLine fills in the place of an error that does not have one yet.
func atLine(err error, template string, line int) error {
	switch e := err.(type) {
	case *Error:
		if e.Line == 0 {
			e.Line = line
		}
		if e.Template == "" {
			e.Template = template
		}
	case *LimitError:
		if e.Line == 0 {
			e.Line = line
		}
		if e.Template == "" {
			e.Template = template
		}
	}
	return err
}
