package target

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

//go:embed data
var data embed.FS

// Target is one execution provider at one release.
type Target struct {
	// Name is the folder's name, such as "tensorrt"; EP the name ONNX Runtime
	// gives the provider.
	Name    string   `json:"name"`
	EP      string   `json:"ep"`
	Aliases []string `json:"aliases"`
	// Title is how people write it.
	Title string `json:"title"`
	// Runtime is the ONNX Runtime release the data describe.
	Runtime string `json:"runtime"`
	// Dialect is "fused" where com.microsoft operators are what it runs best,
	// "standard" where it takes ai.onnx operators alone.
	Dialect string `json:"dialect"`
	// Fallback is the providers to append behind it, in order.
	Fallback []string `json:"fallback"`
	// Session is the session configuration, and Provider the provider options,
	// that this module sets for the target and that placement depends on.
	Session  map[string]string `json:"session"`
	Provider map[string]string `json:"provider"`
	// Notes say what no table can, with sources.
	Notes []string `json:"notes"`
	// MaxRank is the highest rank of an input; SafeRank the highest this
	// module writes for it. 0 is no limit.
	MaxRank  int `json:"max_rank"`
	SafeRank int `json:"safe_rank"`
	// Releases of the library behind the provider, oldest first; Release is the
	// one asked for.
	Releases []Release `json:"releases"`
	Release  Release   `json:"-"`

	Options []Option `json:"options"`

	DefaultRelease string    `json:"default_release"`
	Kernels        string    `json:"kernels"`    // file of kernels/, "" for none
	CastsF16       bool      `json:"casts_f16"`  // float16 without a kernel runs in float32 between casts
	NeedShape      bool      `json:"need_shape"` // every input must have a known shape without zeros
	StaticOption   string    `json:"static_option"`
	ExcludeOption  string    `json:"exclude_option"`
	Borders        elemSet   `json:"borders"` // element types of graph inputs and outputs; 0 for any
	Groups         []group   `json:"groups"`
	Limits         []group   `json:"limits"`
	Quantize       *quantize `json:"quantize"`
	// HostOutputs lists operators whose results lie in main memory, HostInputs
	// the inputs that kernels read from there, by operator. See placing.host.
	HostOutputs []string            `json:"host_outputs"`
	HostInputs  map[string][]string `json:"host_inputs"`
	kernels     kernelTable
}

// Release is one version of the library behind a provider.
type Release struct {
	Version string `json:"version"`
	// MaxOpset is the highest ai.onnx operator set its documents name; newer
	// ones are read but not promised. 0 where nothing is said.
	MaxOpset int64  `json:"max_opset"`
	Where    string `json:"where"` // what ships it
	Source   string `json:"source"`
}

// group is a set of entries from one source.
type group struct {
	Source    string     `json:"source"`
	Operators []operator `json:"operators"`
}

// operator is one entry: some operators that share rules. Inputs and type
// variables are named as in the operator's schema.
type operator struct {
	Ops    string `json:"op"` // one or more names, separated by spaces
	Domain string `json:"domain"`
	// Since and Until bound the operator's own version, both included.
	Since int64 `json:"since"`
	Until int64 `json:"until"`
	// From and To bound the target's release: From <= release < To.
	From string `json:"from"`
	To   string `json:"to"`
	// Types by type variable or name of an input; "*" for the inputs that are
	// not named.
	Types map[string]elemSet `json:"types"`
	// Const lists inputs that must be constant where given, Static those whose
	// shape must be all numbers, Absent those that must not be given.
	Const  []string `json:"const"`
	Static []string `json:"static"`
	Absent []string `json:"absent"`
	// Ranks by input: the ranks allowed.
	Ranks map[string][]int `json:"ranks"`
	// Attrs by name: the values allowed, separated by spaces. Defaults holds
	// what a missing attribute means.
	Attrs    map[string]string `json:"attrs"`
	Defaults map[string]string `json:"defaults"`
	// Forms names checks in forms.go.
	Forms []string `json:"forms"`
	// Warn is said of a node that is taken; where When holds it is said only of
	// nodes with one of these attribute values ("!4" is any but 4).
	Warn string            `json:"warn"`
	When map[string]string `json:"when"`
}

// Known lists the names that Find takes, without aliases, sorted.
func Known() []string {
	entries, err := data.ReadDir("data/ep")
	if err != nil {
		return nil // the folder is embedded
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}

var versionForm = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$`)

// Find returns the execution provider called name: its folder name, an alias
// ("trt", "gpu", "mac") or ONNX Runtime's name, in any case, with or without
// "ExecutionProvider". "NAME@RELEASE" asks for a release of the library behind
// it, such as "tensorrt@10.15"; else it is the oldest one that this module
// writes for by default.
func Find(name string) (*Target, error) {
	base, release, withRelease := strings.Cut(strings.TrimSpace(name), "@")
	base = strings.ToLower(base)
	base = strings.TrimSuffix(base, "executionprovider")
	var known []string
	for _, n := range Known() {
		t, err := load(n)
		if err != nil {
			return nil, err
		}
		known = append(known, n)
		known = append(known, t.Aliases...)
		if base != n && !slices.Contains(t.Aliases, base) {
			continue
		}
		if !withRelease {
			release = t.DefaultRelease
		}
		if err := t.setRelease(release); err != nil {
			return nil, err
		}
		return t, nil
	}
	return nil, fmt.Errorf("unknown execution provider %q%s; known are %s",
		name, didYouMean(base, known), strings.Join(Known(), ", "))
}

// load reads one data file.
func load(name string) (*Target, error) {
	file := path.Join("data/ep", name+".json")
	b, err := data.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	t := &Target{}
	if err := strictJSON(b, t); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if t.Kernels != "" {
		if t.kernels, err = loadKernels(t.Kernels); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// strictJSON decodes one value and refuses unknown fields and trailing text.
func strictJSON(b []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("parse JSON: %w", err)
	}
	if dec.More() {
		return fmt.Errorf("parse JSON: text after the value")
	}
	return nil
}

// setRelease picks the newest listed release that is not newer than version.
func (t *Target) setRelease(version string) error {
	if !versionForm.MatchString(version) {
		return fmt.Errorf("%s: %q is not a release; write it as in %s@%s", t.Title, version, t.Name, t.DefaultRelease)
	}
	first := t.Releases[0].Version
	if compareVersions(version, first) < 0 {
		return fmt.Errorf("%s release %s is older than %s, the oldest described here", t.Title, version, first)
	}
	for _, r := range t.Releases {
		if compareVersions(r.Version, version) <= 0 {
			t.Release = r
		}
	}
	t.Release.Version = version
	return nil
}

// Label names target and release in messages: "TensorRT 10.3".
func (t *Target) Label() string { return t.Title + " " + t.Release.Version }

// Takes reports whether an operator of a domain ("" is ai.onnx) can be taken at
// all at an operator set, whatever its types and shapes. Planners choose forms
// by it: Takes("", "RMSNormalization", 23).
func (t *Target) Takes(domain, op string, opset int64) bool {
	schema := onnx.FindOperator(domain, op, opset)
	if schema == nil {
		return false
	}
	if t.Kernels != "" {
		return len(t.kernels.matching(domain, op, schema.Since)) > 0 || t.kernels.function(domain, op, schema.Since)
	}
	return len(t.entries(t.Groups, domain, op, schema.Since)) > 0
}

// Operators lists what the target has at its release, as "ai.onnx/Add", sorted;
// any operator version counts.
func (t *Target) Operators() []string {
	set := map[string]bool{}
	add := func(domain, op string) { set[cmp.Or(domain, "ai.onnx")+"/"+op] = true }
	for k := range t.kernels.kernels {
		add(k[0], k[1])
	}
	for _, g := range t.Groups {
		for _, o := range g.Operators {
			if inRange(t.Release.Version, o.From, o.To) {
				for _, op := range strings.Fields(o.Ops) {
					add(o.Domain, op)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// entries lists the entries for an operator version at this release.
func (t *Target) entries(groups []group, domain, op string, since int64) []*operator {
	var found []*operator
	for i := range groups {
		for j := range groups[i].Operators {
			o := &groups[i].Operators[j]
			if o.Domain == domain && slices.Contains(strings.Fields(o.Ops), op) &&
				since >= o.Since && (o.Until == 0 || since <= o.Until) &&
				inRange(t.Release.Version, o.From, o.To) {
				found = append(found, o)
			}
		}
	}
	return found
}
