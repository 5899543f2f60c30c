package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// page lays out names and values in two columns; a value's further lines are
// indented under the first.
type page struct {
	strings.Builder
	color bool
}

func (p *page) row(name, format string, a ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, a...), "\n", "\n"+strings.Repeat(" ", 14))
	fmt.Fprintf(p, "%-13s %s\n", name, text)
}

// paint puts text into a colour (an SGR number), where the end has colours.
func (p *page) paint(sgr, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// print is the diagnosis for people.
func (d *diagnosis) print(w io.Writer, color bool) error {
	p := &page{color: color}
	p.row("program", "llama-pajamas %s on %s/%s", d.Version, d.OS, d.Arch)
	p.row("processor", "%s, %s, %s\n%s", d.CPU.Name, plural(d.CPU.Cores, "core"), plural(d.CPU.Logical, "hardware thread"), d.CPU.speech())
	p.row("memory", "%s", d.Memory.speech())
	if len(d.Accelerators) == 0 {
		p.row("accelerators", "none found")
	}
	for _, a := range d.Accelerators {
		p.row("accelerator", "%s", a.speech())
	}
	p.row("library", "%s", d.Library.speech())
	if d.Cache.Error != "" {
		p.row("cache", "%s", d.Cache.Error)
	} else {
		p.row("cache", "%s in %s", humanBytes(d.Cache.Bytes), d.Cache.Dir)
	}
	p.WriteString("\nbackends\n")
	for _, b := range d.Backends {
		verdict := p.paint("32", "yes")
		if b.Name == "cpu" && b.OK {
			verdict += ", " + plural(d.CPU.Threads, "thread")
		}
		if !b.OK {
			verdict = p.paint("33", "no ") + " " + b.Why
		}
		if b.Do != "" {
			verdict += "\n    → " + b.Do
		}
		p.row("  "+b.Name, "%s", verdict)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// speech lists the features and what the lack of one means for speed.
func (c cpuReport) speech() string {
	text := strings.Join(c.Features, " ")
	if text == "" {
		text = "no vector features known"
	}
	if c.Int8Dot {
		return text + "\nwith 8-bit dot products: fast for quantized models"
	}
	return text + "\nwithout 8-bit dot products (VNNI, dotprod, i8mm): quantized models run, but slower"
}

func (m memoryReport) speech() string {
	if m.Error != "" {
		return m.Error
	}
	// The sums of DESIGN "Arithmetic": weights alone, with a tenth left free.
	fits := func(bits float64) float64 { return 0.9 * float64(m.Free) * 8 / bits / 1e9 }
	return fmt.Sprintf("%s, %s free: room for about %.2g billion weights at int4, %.2g at int8",
		humanBytes(int64(m.Total)), humanBytes(int64(m.Free)), fits(5.5), fits(8.5))
}

func (a accelerator) speech() string {
	text := a.Name
	if a.Compute != "" {
		text += ", compute capability " + a.Compute
	}
	if a.Driver != "" {
		text += ", driver " + a.Driver
	}
	if a.Total > 0 {
		text += fmt.Sprintf(", %s, %s free", humanBytes(int64(a.Total)), humanBytes(int64(a.Free)))
	}
	return text
}

func (r libraryReport) speech() string {
	var missing *nativelib.NotFoundError
	switch {
	case errors.As(r.err, &missing):
		text := "ONNX Runtime was not found; looked"
		for _, p := range missing.Looked {
			text += fmt.Sprintf("\n  %s: %s (%s)", p.Where, p.Path, p.Why)
		}
		return text
	case r.err != nil:
		return r.Error
	}
	return fmt.Sprintf("ONNX Runtime %s, %s\n%s\nproviders: %s", r.Version, r.Where, r.Path, strings.Join(r.Providers, ", "))
}

// plural counts: "1 core", "2 cores".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
