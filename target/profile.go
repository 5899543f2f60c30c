package target

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Profile is a machine as users name it: its memory, what it can do at best,
// and the settings this module uses on it.
type Profile struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// EP is the target's name, Release the library release behind it that such
	// machines have, "" for the target's default.
	EP      string `json:"ep"`
	Release string `json:"release"`
	// Memory is what model and cache can use, in bytes; 0 where it depends.
	Memory int64 `json:"memory"`
	// Unified says that CPU and accelerator share it.
	Unified bool `json:"unified"`
	// Bandwidth of that memory in GB/s (1e9 bytes); 0 where it depends.
	Bandwidth float64 `json:"bandwidth"`
	// Compute is NVIDIA's compute capability, such as "8.7".
	Compute string `json:"compute"`
	// Sources of the figures above.
	Sources []string `json:"sources"`
	// Options are the provider options asked for, Session session
	// configuration keys; Options says what a release makes of them.
	Options map[string]string `json:"options"`
	Session map[string]string `json:"session"`
	// Recipe is the recommended precision, a default recipe of the target.
	Recipe string `json:"recipe"`
	// Models is the size of models that fit well, in words.
	Models string   `json:"models"`
	Notes  []string `json:"notes"`
	// Match tells DetectProfile which machines it is.
	Match match `json:"match"`
}

// match are conditions; an empty one is not looked at. All given ones must hold.
type match struct {
	GPU     string `json:"gpu"`     // end of the name of the NVIDIA card with most memory
	Jetson  string `json:"jetson"`  // part of a Jetson's model
	Apple   bool   `json:"apple"`   // Apple silicon
	CPU     string `json:"cpu"`     // end of the processor's name
	Feature string `json:"feature"` // CPU features, as hardware.Features prints them
	Nvidia  bool   `json:"nvidia"`  // any NVIDIA card
	Arch    string `json:"arch"`    // GOARCH
}

// Profiles lists all profiles by name.
func Profiles() ([]Profile, error) {
	const dir = "data/profiles"
	entries, err := data.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	var out []Profile
	for _, e := range entries {
		b, err := data.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read profiles: %w", err)
		}
		var p Profile
		if err := strictJSON(b, &p); err != nil {
			return nil, fmt.Errorf("read %s/%s: %w", dir, e.Name(), err)
		}
		out = append(out, p)
	}
	return out, nil
}

// FindProfile returns the profile called name, ignoring case.
func FindProfile(name string) (*Profile, error) {
	all, err := Profiles()
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		if strings.EqualFold(all[i].Name, name) {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	return nil, fmt.Errorf("unknown hardware profile %q%s; known are %s", name, didYouMean(name, names), strings.Join(names, ", "))
}

// Target is the execution provider of the profile, at its release.
func (p *Profile) Target() (*Target, error) {
	name := p.EP
	if p.Release != "" {
		name += "@" + p.Release
	}
	t, err := Find(name)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", p.Name, err)
	}
	return t, nil
}

// Ceiling is the most tokens per second that decoding at batch 1 can reach when
// each token reads bytesPerToken bytes of weights and cache once: bandwidth /
// bytes. 0 where the bandwidth is not known.
func (p *Profile) Ceiling(bytesPerToken int64) float64 {
	if bytesPerToken <= 0 {
		return 0
	}
	return p.Bandwidth * 1e9 / float64(bytesPerToken)
}

// Translate gives the provider options to hand over at the target's release, and
// what becomes of the ones the profile asks for. An option whose only effect
// there is harm or nothing is dropped and the note says so; explicit options of
// a user are not the profile's business.
func (p *Profile) Translate(t *Target) (map[string]string, []OptionNote) {
	options := maps.Clone(p.Options)
	if options == nil {
		options = map[string]string{}
	}
	notes := t.Explain(options)
	for i := range notes {
		n := &notes[i]
		o := t.Option(n.Key)
		if n.Ignored || slices.Contains(weakTyping, n.Key) && compareVersions(t.Release.Version, "10") >= 0 {
			n.Dropped = true
			delete(options, o.Key)
		}
	}
	return options, notes
}

// weakTyping are the TensorRT flags that, from 10 on, turn a strongly typed
// network into a weakly typed one.
var weakTyping = []string{"trt_fp16_enable", "trt_int8_enable", "trt_bf16_enable"}
