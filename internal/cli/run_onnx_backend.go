package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// backendFlags say what computes, and with which settings.
type backendFlags struct {
	backend, profile string
	options          []string
}

func (b *backendFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&b.backend, "backend", "auto", "what computes: "+strings.Join(onnxruntime.Names(), ", ")+", or auto for the one the\nmodel was made for where this machine has it; one that cannot be used is\npassed over with a warning: tensorrt, cuda, cpu; coreml, cpu")
	f.StringVar(&b.profile, "profile", "", "settings of a known machine, such as jetson-orin (docs/hardware-profiles.md)")
	f.StringArrayVar(&b.options, "ep-option", nil, "KEY=VALUE for the execution provider, in its own words, such as\ntrt_max_workspace_size=1073741824; may be given several times")
}

// choice is what the flags come to for one model on this machine.
type choice struct {
	name    string // of the backend asked for
	options map[string]string
	session map[string]string
	profile *target.Profile
	acc     hardware.Accelerators
}

// choose settles backend, profile and options.
func (b *backendFlags) choose(ctx context.Context, c *common, cmd *cobra.Command, folder *modeldir.Folder) (*choice, error) {
	ch := &choice{name: strings.ToLower(b.backend), options: map[string]string{}}
	if b.profile != "" {
		var err error
		if ch.profile, err = target.FindProfile(b.profile); err != nil {
			return nil, usagef(cmd, "--profile: %w", err)
		}
		if ch.name == "auto" {
			ch.name = ch.profile.EP
		}
	}
	if ch.name == "auto" {
		ch.acc = hardware.DetectAccelerators(ctx)
		ch.name = onnxruntime.Best(folder, ch.acc)
		if made := madeFor(folder); made != "" && made != onnxruntime.ProviderName(ch.name) {
			c.note("the model was made for %s, which this machine has no hardware for: %s runs it, maybe slowly", made, ch.name)
		}
	}
	if _, err := onnxruntime.Chain(ch.name); err != nil {
		return nil, usagef(cmd, "--backend: %w", err)
	}
	if p := ch.profile; p != nil {
		if p.EP != ch.name {
			return nil, usagef(cmd, "--profile %s is for --backend %s, not %s", p.Name, p.EP, ch.name)
		}
		if err := ch.translate(c); err != nil {
			return nil, err
		}
	}
	return ch, b.given(c, cmd, ch)
}

// madeFor is the execution provider a model was made for; "" where it was made
// for none in particular.
func madeFor(folder *modeldir.Folder) string {
	if m := folder.Metadata; m != nil && m.Target.ExecutionProvider != "any" {
		return m.Target.ExecutionProvider
	}
	return ""
}

// translate takes the profile's options and says what its release makes of
// them.
func (ch *choice) translate(c *common) error {
	t, err := ch.profile.Target()
	if err != nil {
		return err
	}
	var notes []target.OptionNote
	ch.options, notes = ch.profile.Translate(t)
	ch.session = ch.profile.Session
	for _, n := range notes {
		what := ""
		if n.Dropped {
			what = " (left out)"
		}
		c.note("profile %s, %s %s: %s=%s%s: %s", ch.profile.Name, t.Title, t.Release.Version, n.Key, n.Value, what, n.Text)
	}
	return nil
}

// given adds --ep-option, which wins over the profile.
func (b *backendFlags) given(c *common, cmd *cobra.Command, ch *choice) error {
	own := map[string]string{}
	for _, text := range b.options {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return usagef(cmd, "--ep-option %q: want KEY=VALUE", text)
		}
		own[key] = value
	}
	if len(own) == 0 {
		return nil
	}
	if err := target.CheckOptions(ch.name, own); err != nil {
		return usagef(cmd, "--ep-option: %w", err)
	}
	t, err := target.Find(ch.name)
	if ch.profile != nil {
		t, err = ch.profile.Target()
	}
	if err != nil {
		return err
	}
	for _, n := range t.Explain(own) {
		c.note("%s %s: %s=%s: %s", t.Title, t.Release.Version, n.Key, n.Value, n.Text)
	}
	maps.Copy(ch.options, own)
	return nil
}

// newBackend finds the library for the chosen backend, or for one it falls back
// to, and opens it. passed are the backends without a library.
func (c *common) newBackend(cmd *cobra.Command, ch *choice, change func(*onnxruntime.Options)) (b *onnxruntime.Backend, passed []onnxruntime.Fallback, err error) {
	log, err := c.logger(cmd)
	if err != nil {
		return nil, nil, err
	}
	names, err := onnxruntime.Chain(ch.name)
	if err != nil {
		return nil, nil, err
	}
	o := onnxruntime.Options{
		Provider: ch.name, ProviderOptions: ch.options, SessionConfig: ch.session, Logger: log,
		Depend: c.dependOptions(), Building: c.building(),
	}
	if dir, err := c.CacheDir(); err == nil {
		o.CacheDir = dir
	}
	for i, name := range names {
		found, err := c.locateORT(name)
		if err == nil {
			o.Library, o.Provider = found.Path, name
			break
		}
		var missing *nativelib.NotFoundError
		if !errors.As(err, &missing) || i == len(names)-1 {
			return nil, nil, err
		}
		f := onnxruntime.Fallback{From: name, To: names[i+1], Why: "no ONNX Runtime library for it was found. " + missing.Setup}
		log.Warn("falling back to another execution provider", "from", f.From, "to", f.To, "why", f.Why)
		passed = append(passed, f)
		o.ProviderOptions, o.SessionConfig = nil, nil
	}
	if change != nil {
		change(&o)
	}
	b, err = onnxruntime.New(o)
	return b, passed, err
}

// dependOptions says where NVIDIA's libraries may lie: the loader's own path
// and Python's packages.
func (c *common) dependOptions() nativelib.DependOptions {
	var o nativelib.DependOptions
	variable := map[string]string{"windows": "PATH", "darwin": "DYLD_LIBRARY_PATH"}[runtime.GOOS]
	if variable == "" {
		variable = "LD_LIBRARY_PATH"
	}
	o.LibraryPath = filepath.SplitList(c.Getenv(variable))
	var patterns []string
	for _, root := range []string{c.Getenv("VIRTUAL_ENV"), c.Getenv("CONDA_PREFIX")} {
		if root != "" {
			patterns = append(patterns, filepath.Join(root, "lib", "python3*", "site-packages"), filepath.Join(root, "Lib", "site-packages"))
		}
	}
	if home := c.Getenv("HOME"); home != "" {
		patterns = append(patterns, filepath.Join(home, ".local", "lib", "python3*", "site-packages"))
	}
	if runtime.GOOS == "linux" {
		patterns = append(patterns, "/usr/local/lib/python3*/site-packages", "/usr/local/lib/python3*/dist-packages",
			"/usr/lib/python3/dist-packages", "/usr/lib/python3*/site-packages")
	}
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			continue // a folder whose name is no pattern
		}
		slices.Sort(found)
		slices.Reverse(found) // newer Pythons first
		o.SitePackages = append(o.SitePackages, found...)
	}
	return o
}

// building shows that an engine is being built: a line that counts seconds on
// a terminal, else a note at the start.
func (c *common) building() func(provider string, elapsed time.Duration, done bool) {
	noted := false
	return func(provider string, elapsed time.Duration, done bool) {
		what := "compiling the model for " + provider + ", once for this device"
		switch {
		case c.Quiet:
		case done && c.ErrTerminal:
			fmt.Fprintf(c.Err, "\r%s: done in %.0f s\x1b[K\n", what, elapsed.Seconds())
		case done:
			c.note("%s: done in %.0f s", what, elapsed.Seconds())
		case c.ErrTerminal:
			fmt.Fprintf(c.Err, "\r%s: %.0f s\x1b[K", what, elapsed.Seconds())
		case !noted:
			c.note("%s: this can take minutes", what)
			noted = true
		}
	}
}

// advise says what would help where the library at hand lacks a provider.
func (c *common) advise(b *onnxruntime.Backend, passed []onnxruntime.Fallback) {
	for _, f := range passed {
		if b.Built(f.From) {
			continue
		}
		if _, err := nativelib.FindPin(f.From, runtime.GOOS, runtime.GOARCH); err == nil {
			c.note("%s fetches a library with it", c.setupCommand(f.From))
			return
		}
	}
}
