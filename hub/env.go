package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FromEnv makes Options of the variables that huggingface_hub knows
// (constants.py, utils/_auth.py): HF_HUB_CACHE or HF_HOME or XDG_CACHE_HOME for
// the cache, HF_TOKEN or the file HF_TOKEN_PATH for the token, HF_ENDPOINT,
// HF_HUB_OFFLINE, HF_HUB_DISABLE_SYMLINKS, HF_HUB_DOWNLOAD_TIMEOUT (seconds).
// Proxies are not its business: [http.ProxyFromEnvironment] fits
// Options.Proxy. An empty variable counts as none.
func FromEnv(getenv func(string) string) (Options, error) {
	e := environment(getenv)
	o := Options{
		Endpoint:   getenv("HF_ENDPOINT"),
		Offline:    isTrue(e.first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")),
		NoSymlinks: isTrue(getenv("HF_HUB_DISABLE_SYMLINKS")),
	}
	if s := getenv("HF_HUB_DOWNLOAD_TIMEOUT"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n <= 0 {
			return Options{}, fmt.Errorf("HF_HUB_DOWNLOAD_TIMEOUT=%s: want a number of seconds", s)
		}
		o.Timeout = time.Duration(n) * time.Second
	}
	if o.CacheDir = e.expand(e.first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")); o.CacheDir == "" {
		home, err := e.hfHome()
		if err != nil {
			return Options{}, err
		}
		o.CacheDir = filepath.Join(home, "hub")
	}
	var err error
	if o.CacheDir, err = filepath.Abs(o.CacheDir); err != nil {
		return Options{}, fmt.Errorf("find the hub's cache folder: %w", err)
	}
	if o.Token, err = e.token(); err != nil {
		return Options{}, err
	}
	return o, nil
}

// environment looks up variables.
type environment func(string) string

// first returns the first variable that is set.
func (e environment) first(names ...string) string {
	for _, n := range names {
		if v := e(n); v != "" {
			return v
		}
	}
	return ""
}

func isTrue(s string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(s))
}

// home is the user's home folder, as Python's expanduser finds it.
func (e environment) home() (string, error) {
	name := "HOME"
	if runtime.GOOS == "windows" {
		name = "USERPROFILE"
	}
	if h := e(name); h != "" {
		return h, nil
	}
	return "", errors.New("find the hub's cache folder: " + name + " is not set; set HF_HOME")
}

// hfHome is the folder of the cache and the token.
func (e environment) hfHome() (string, error) {
	if h := e("HF_HOME"); h != "" {
		return e.expand(h), nil
	}
	if x := e("XDG_CACHE_HOME"); x != "" {
		return e.expand(filepath.Join(x, "huggingface")), nil
	}
	h, err := e.home()
	if err != nil {
		return "", err
	}
	return filepath.Join(h, ".cache", "huggingface"), nil
}

// expand replaces a leading ~ and variables; unknown ones stay as they are.
func (e environment) expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		if h, err := e.home(); err == nil {
			path = h + rest
		}
	}
	return os.Expand(path, func(name string) string {
		if v := e(name); v != "" {
			return v
		}
		return "$" + name
	})
}

// token is the variable's, else the one that `hf auth login` left in a file.
func (e environment) token() (string, error) {
	if isTrue(e("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return "", nil
	}
	if t := strings.TrimSpace(e.first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")); t != "" {
		return t, nil
	}
	path := e.expand(e("HF_TOKEN_PATH"))
	if path == "" {
		home, err := e.hfHome()
		if err != nil {
			return "", nil // no home, no file
		}
		path = filepath.Join(home, "token")
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the hub token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
