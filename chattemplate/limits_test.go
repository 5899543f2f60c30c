package chattemplate_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
)

// smallLimits are limits a test can run into quickly.
var smallLimits = chattemplate.Options{
	MaxSteps: 200_000, MaxOutput: 1 << 20, MaxMemory: 8 << 20, MaxDepth: 50, Timeout: time.Minute,
}

// hostile templates try to run or grow without end. Each must stop by a limit,
// or by an error that Jinja2 has too.
var hostile = []struct {
	name, source string
	limit        bool // stopped by a LimitError; else by an Error
}{
	{"long range", "{% for i in range(10 ** 9) %}x{% endfor %}", false},
	{"nested loops", "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}", true},
	{"nested loops that print", "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}", true},
	{"doubling", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}", true},
	{"doubling by +", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}", true},
	{"doubling a list", "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}", true},
	{"doubling by replace", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s|replace('x', 'xx') %}{% endfor %}", true},
	{"doubling by join", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = [n.s, n.s]|join %}{% endfor %}", true},
	{"doubling by format", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = '{0}{0}'.format(n.s) %}{% endfor %}", true},
	{"doubling by percent", "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = '%s%s' % (n.s, n.s) %}{% endfor %}", true},
	{"doubling by tojson", "{% set n = namespace(s='\"') %}{% for i in range(99) %}{% set n.s = n.s|tojson %}{% endfor %}", true},
	{"doubling by block", "{% set s = 'x' %}{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = d(n.s) %}{% endfor %}", true},
	{"repetition", "{{ 'x' * 999999999999 }}", true},
	{"repetition of nothing", "{{ '' * 9223372036854775807 }}{{ 1 // 0 }}", false},
	{"list repetition", "{{ [1] * 999999999999 }}", true},
	{"many big strings", "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = n.l + ['x' * 1000000] %}{% endfor %}", true},
	{"padding", "{{ 'x'.center(999999999999) }}", true},
	{"padding by filter", "{{ 'x'|center(999999999999) }}", true},
	{"zfill", "{{ 'x'.zfill(9223372036854775807) }}", true},
	{"tabs", "{{ '\\t'.expandtabs(9999999999) }}", true},
	{"indent", "{{ ('x\\n' * 1000)|indent(9999999) }}", true},
	{"format width", "{{ '%999999999d' % 1 }}", false},
	{"format width in braces", "{{ '{:999999999}'.format(1) }}", false},
	{"format precision", "{{ '%.999999999f' % 1.5 }}", false},
	{"JSON indent", "{{ [[[1]]]|tojson(indent=99999999) }}", true},
	{"batch filling", "{{ [1]|batch(999999999, 'x')|list }}", true},
	{"slices", "{{ [1]|slice(999999999)|list }}", true},
	{"macro recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", true},
	{"caller recursion", "{% macro m() %}{{ caller() }}{% call m() %}{% endcall %}{% endmacro %}{% call m() %}{% endcall %}", true},
	{"loop recursion", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", true},
	{"deep value printed", "{% set n = namespace(v=[]) %}{% for i in range(5000) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v }}", false},
	{"deep value as JSON", "{% set n = namespace(v=[]) %}{% for i in range(5000) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v|tojson }}", false},
	{"deep values compared", "{% set n = namespace(v=[], w=[]) %}{% for i in range(5000) %}{% set n.v = [n.v] %}{% set n.w = [n.w] %}{% endfor %}{{ n.v == n.w }}", false},
	{"deep key", "{% set n = namespace(v=()) %}{% for i in range(5000) %}{% set n.v = (n.v,) %}{% endfor %}{{ {n.v: 1} }}", false},
	{"wide shared value", "{% set n = namespace(v=['x']) %}{% for i in range(60) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v }}", true},
	{"wide shared value as JSON", "{% set n = namespace(v=['x']) %}{% for i in range(60) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v|tojson }}", true},
	{"wide shared values compared", "{% set n = namespace(v=['x'], w=['x']) %}{% for i in range(60) %}{% set n.v = [n.v, n.v] %}{% set n.w = [n.w, n.w] %}{% endfor %}{{ n.v == n.w }}", true},
	{"wide shared key", "{% set n = namespace(v=(1,)) %}{% for i in range(60) %}{% set n.v = (n.v, n.v) %}{% endfor %}{{ {n.v: 1} }}", false},
	{"generator chain", "{% set n = namespace(g=[1]) %}{% for i in range(90000) %}{% set n.g = n.g|map('abs') %}{% endfor %}{{ n.g|list }}", false},
	{"namespace in itself", "{% set n = namespace() %}{% set n.n = n %}{{ n }}", false},
	{"sorting", "{% for i in range(999) %}{% set x = range(9999)|sort %}{% endfor %}", true},
	{"deep expression", "{{ " + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000) + " }}", true},
	{"deep lists", "{{ " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + " }}", true},
	{"long sum", "{{ 1" + strings.Repeat("+1", 50000) + " }}", true},
	{"many nots", "{{ " + strings.Repeat("not ", 50000) + "1 }}", true},
	{"many minuses", "{{ " + strings.Repeat("- ", 50000) + "1 }}", true},
	{"many filters", "{{ 1" + strings.Repeat("|abs", 50000) + " }}", true},
	{"many attributes", "{{ x" + strings.Repeat(".x", 50000) + " }}", true},
	{"many else", "{{ " + strings.Repeat("1 if 0 else ", 50000) + "1 }}", true},
	{"deep statements", strings.Repeat("{% if 1 %}", 5000) + strings.Repeat("{% endif %}", 5000), true},
	{"long source", strings.Repeat("x", 2<<20), true},
}

func TestHostileTemplates(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			tmpl, err := chattemplate.Parse("hostile", tt.source)
			if err == nil {
				_, err = tmpl.Render(context.Background(), nil, smallLimits)
			}
			runtime.ReadMemStats(&after)
			var limit *chattemplate.LimitError
			var other *chattemplate.Error
			switch {
			case err == nil:
				t.Fatal("no error")
			case tt.limit && !errors.As(err, &limit):
				t.Errorf("no LimitError: %v", err)
			case !tt.limit && !errors.As(err, &other):
				t.Errorf("no Error: %v", err)
			}
			if d := time.Since(start); d > 30*time.Second { // loose, for busy machines
				t.Errorf("took %v", d)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 128<<20 {
				t.Errorf("allocated %d MiB in all", n>>20)
			}
		})
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	tmpl, err := chattemplate.Parse("slow", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	endless := chattemplate.Options{MaxSteps: 1 << 60, Timeout: 50 * time.Millisecond}
	var limit *chattemplate.LimitError
	if _, err := tmpl.Render(context.Background(), nil, endless); !errors.As(err, &limit) || limit.What != "seconds" {
		t.Errorf("timeout: got %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	endless.Timeout = time.Minute
	if _, err := tmpl.Render(ctx, nil, endless); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancel: got %v", err)
	}
}

// TestParseCost: what parsing allocates grows with the length of the source,
// not with its square. (Allocation stands for time, which a busy machine blurs.)
func TestParseCost(t *testing.T) {
	manyIfs := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "{%% if a%d %%}{%% set b%d = 1 %%}{%% endif %%}", i, i)
		}
		return b.String()
	}
	nested := func(n int) string {
		const depth = 90
		return strings.Repeat("{% for i in l %}{% if i %}", depth) + strings.Repeat("{{ x }}", n) + strings.Repeat("{% endif %}{% endfor %}", depth)
	}
	cost := func(source string) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := chattemplate.Parse("cost", source); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(len(source))
	}
	for name, source := range map[string]func(n int) string{"ifs": manyIfs, "loops": nested} {
		small, large := cost(source(2000)), cost(source(16000))
		t.Logf("%s: %.0f and %.0f bytes allocated per byte of source", name, small, large)
		if large > 2*small || large > 500 {
			t.Errorf("%s: %.0f bytes allocated per byte of source, %.0f for a source 8 times longer", name, small, large)
		}
	}
}
