package target

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// reference is a model that the page computes ceilings for.
type reference struct {
	name string
	spec arch.Spec
}

// references are public shapes, from the config.json of each model.
var references = []reference{
	{"Qwen3-0.6B", arch.Spec{Hidden: 1024, Intermediate: 3072, Layers: 28, Heads: 16, KVHeads: 8, HeadDim: 128, Vocab: 151936, Tied: true, QKNorm: true}},
	{"Qwen3-4B", arch.Spec{Hidden: 2560, Intermediate: 9728, Layers: 36, Heads: 32, KVHeads: 8, HeadDim: 128, Vocab: 151936, Tied: true, QKNorm: true}},
	{"Qwen3-8B", arch.Spec{Hidden: 4096, Intermediate: 12288, Layers: 36, Heads: 32, KVHeads: 8, HeadDim: 128, Vocab: 151936, QKNorm: true}},
}

// WeightsPerToken is the number of weights that decoding one token reads: all
// but an embedding that is not also the head, of which one row is read.
func WeightsPerToken(spec *arch.Spec) int64 {
	n := spec.Parameters()
	if !spec.Tied {
		n -= int64(spec.Vocab-1) * int64(spec.Hidden)
	}
	return n
}

// bitsInMemory is what a weight takes where decoding reads it: int4 in blocks of
// 64 with float16 scales, int8 with a scale per channel (too few to count);
// CoreML holds float16 whatever the file.
func bitsInMemory(ep, precision string) float64 {
	switch {
	case precision == "fp16" || ep == "coreml":
		return 16
	case precision == "int8":
		return 8
	}
	return 4 + 16.0/64
}

// WritePage writes docs/hardware-profiles.md from the data.
func WritePage(w io.Writer) error {
	profiles, err := Profiles()
	if err != nil {
		return err
	}
	slices.SortFunc(profiles, func(a, b Profile) int {
		return cmp.Or(cmp.Compare(a.EP, b.EP), cmp.Compare(b.Bandwidth, a.Bandwidth), cmp.Compare(a.Name, b.Name))
	})
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("\n| profile | machine | memory | GB/s | compute capability | target | recipe |\n|---|---|---|---|---|---|---|\n")
	for i := range profiles {
		p := &profiles[i]
		t, err := p.Target()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", p.Name, p.Title, orDash(gibibytes(p)), bandwidth(p), orDash(p.Compute), t.Label(), p.Recipe)
	}
	pageCeilings(&b, profiles)
	for i := range profiles {
		if err := pageProfile(&b, &profiles[i]); err != nil {
			return err
		}
	}
	if err := pageOptions(&b); err != nil {
		return err
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the page of profiles: %w", err)
	}
	return nil
}

const pageHead = `# Hardware profiles

<!-- Made from target/data by go generate ./target; edit the data. -->

A profile names a machine: what it has, what decoding can reach on it at best,
and the settings used on it. ` + "`--profile NAME`" + ` chooses one. Without it the
nearest one is guessed from what the machine says of itself, for the ceiling that
selftest and bench print; its settings count only where it is named. A profile is
a file of target/data/profiles; to add a machine, add a file.

Nothing on this page was measured: memory and bandwidth are the makers' figures,
ceilings are arithmetic. No Jetson, GeForce card or Mac was at hand. Sums of memory
for small machines are in [EDGE_DEPLOYMENT.md](../EDGE_DEPLOYMENT.md).
`

func pageCeilings(b *strings.Builder, profiles []Profile) {
	b.WriteString(`
## Ceilings

Decoding one token at batch 1 reads every weight once, so tokens/s cannot exceed
bandwidth / bytes, whatever the code. The table counts weights alone: int8 at
8 bits, int4 at 4.25 bits (blocks of 64, float16 scales), CoreML at 16 bits
whatever the file; the cache comes on top. "Does not fit" counts all weights and
2 GB for the system (1 GB on a card), again without cache.

| profile |`)
	for _, r := range references {
		for _, precision := range []string{"int8", "int4"} {
			fmt.Fprintf(b, " %s %s |", r.name, precision)
		}
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", 2*len(references)) + "\n")
	for i := range profiles {
		p := &profiles[i]
		if p.Bandwidth == 0 {
			continue
		}
		fmt.Fprintf(b, "| `%s` |", p.Name)
		for _, r := range references {
			for _, precision := range []string{"int8", "int4"} {
				bytes := int64(float64(WeightsPerToken(&r.spec)) * bitsInMemory(p.EP, precision) / 8)
				note := ""
				held := int64(float64(r.spec.Parameters()) * bitsInMemory(p.EP, precision) / 8)
				if p.Memory > 0 && held > p.Memory-reserve(p) {
					note = " (does not fit)"
				}
				fmt.Fprintf(b, " %s%s |", number(p.Ceiling(bytes)), note)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\nWeights read per token:")
	for i, r := range references {
		fmt.Fprintf(b, "%s %s %.2f billion", map[bool]string{true: "", false: ","}[i == 0], r.name, float64(WeightsPerToken(&r.spec))/1e9)
	}
	b.WriteString(".\n")
}

// reserve is memory that the system needs beside the model: 2 GiB where CPU and
// accelerator share it, 1 GiB for the runtime elsewhere. A rule of thumb.
func reserve(p *Profile) int64 {
	if p.Unified {
		return 2 << 30
	}
	return 1 << 30
}

func pageProfile(b *strings.Builder, p *Profile) error {
	t, err := p.Target()
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n## %s\n\n%s. Models that fit: %s.\n", p.Name, p.Title, p.Models)
	options, notes := p.Translate(t)
	if len(p.Options) > 0 {
		fmt.Fprintf(b, "\n| provider option | asked | handed to %s | |\n|---|---|---|---|\n", t.Label())
	}
	for _, key := range slices.Sorted(maps.Keys(p.Options)) {
		handed, text := "not set", ""
		if v, ok := options[key]; ok {
			handed = "`" + v + "`"
		}
		for _, n := range notes {
			if n.Key == key {
				text = n.Text
			}
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s | %s |\n", key, p.Options[key], handed, text)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Session)) {
		fmt.Fprintf(b, "\nSession key `%s` = `%s`.\n", key, p.Session[key])
	}
	if len(p.Notes) > 0 {
		b.WriteString("\n- " + strings.Join(p.Notes, "\n- ") + "\n")
	}
	if len(p.Sources) > 0 {
		fmt.Fprintf(b, "\nSources: %s.\n", strings.Join(p.Sources, "; "))
	}
	return nil
}

// pageOptions lists the provider options of each target.
func pageOptions(b *strings.Builder) error {
	b.WriteString(`
## Provider options

Keys and values are checked before they are handed over; ` + "`--ep-option KEY=VALUE`" + `
sets one by hand and wins over the profile. Defaults of CUDA and TensorRT are the
answers of onnxruntime-gpu 1.31.1 itself; those of CoreML are read from its source.
`)
	for _, name := range Known() {
		t, err := Find(name)
		if err != nil {
			return err
		}
		if len(t.Options) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s\n\n| key | default | |\n|---|---|---|\n", t.Title)
		for _, o := range t.Options {
			if o.Type == "address" {
				continue
			}
			doc := o.Doc
			if o.Type == "enum" {
				doc += ": " + strings.Join(o.Values, ", ")
			}
			for _, e := range o.Effects {
				doc += fmt.Sprintf("<br>%s: %s", releaseRange(e), e.Text)
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", o.Key, orDash(code(o.Default)), doc)
		}
	}
	return nil
}

func releaseRange(e Effect) string {
	switch {
	case e.From == "" && e.To == "":
		return "all releases"
	case e.From == "":
		return "before " + e.To
	case e.To == "":
		return "from " + e.From
	}
	return "from " + e.From + " to before " + e.To
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func orDash(s string) string { return cmp.Or(s, "–") }

func gibibytes(p *Profile) string {
	if p.Memory == 0 {
		return ""
	}
	s := fmt.Sprintf("%d GB", p.Memory>>30)
	if p.Unified {
		s += " shared"
	}
	return s
}

func bandwidth(p *Profile) string {
	if p.Bandwidth == 0 {
		return "–"
	}
	return strconv.FormatFloat(p.Bandwidth, 'g', -1, 64)
}

// number prints three digits, "–" for nothing known.
func number(x float64) string {
	switch {
	case x == 0:
		return "–"
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}
