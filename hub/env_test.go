package hub_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hub"
)

func TestFromEnv(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write(".cache/huggingface/token", "hf_default\n")
	write("hf/token", " hf_home\r\n")
	other := write("secret", "hf_other")
	standard := filepath.Join(home, ".cache", "huggingface", "hub")
	for what, tc := range map[string]struct {
		env  map[string]string
		want hub.Options
		err  string
	}{
		"nothing":       {nil, hub.Options{CacheDir: standard, Token: "hf_default"}, ""},
		"XDG":           {map[string]string{"XDG_CACHE_HOME": filepath.Join(home, "x")}, hub.Options{CacheDir: filepath.Join(home, "x", "huggingface", "hub")}, ""},
		"HF_HOME":       {map[string]string{"HF_HOME": "~/hf", "XDG_CACHE_HOME": "x"}, hub.Options{CacheDir: filepath.Join(home, "hf", "hub"), Token: "hf_home"}, ""},
		"HF_HUB_CACHE":  {map[string]string{"HF_HUB_CACHE": "$BASE/c", "BASE": home, "HUGGINGFACE_HUB_CACHE": "no"}, hub.Options{CacheDir: filepath.Join(home, "c"), Token: "hf_default"}, ""},
		"old name":      {map[string]string{"HUGGINGFACE_HUB_CACHE": home}, hub.Options{CacheDir: home, Token: "hf_default"}, ""},
		"unknown var":   {map[string]string{"HF_HUB_CACHE": home + "/$NOBODY/c"}, hub.Options{CacheDir: filepath.Join(home, "$NOBODY", "c"), Token: "hf_default"}, ""},
		"HF_TOKEN":      {map[string]string{"HF_TOKEN": " hf_env ", "HF_TOKEN_PATH": other}, hub.Options{CacheDir: standard, Token: "hf_env"}, ""},
		"HF_TOKEN_PATH": {map[string]string{"HF_TOKEN_PATH": "~/secret"}, hub.Options{CacheDir: standard, Token: "hf_other"}, ""},
		"no token file": {map[string]string{"HF_TOKEN_PATH": "~/none"}, hub.Options{CacheDir: standard}, ""},
		"no token":      {map[string]string{"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN": "x"}, hub.Options{CacheDir: standard}, ""},
		"endpoint":      {map[string]string{"HF_ENDPOINT": "https://mirror.example"}, hub.Options{CacheDir: standard, Token: "hf_default", Endpoint: "https://mirror.example"}, ""},
		"offline": {map[string]string{"HF_HUB_OFFLINE": "true", "HF_HUB_DISABLE_SYMLINKS": "on", "HF_HUB_DOWNLOAD_TIMEOUT": "7"},
			hub.Options{CacheDir: standard, Token: "hf_default", Offline: true, NoSymlinks: true, Timeout: 7 * time.Second}, ""},
		"not offline":  {map[string]string{"HF_HUB_OFFLINE": "0"}, hub.Options{CacheDir: standard, Token: "hf_default"}, ""},
		"transformers": {map[string]string{"TRANSFORMERS_OFFLINE": "YES"}, hub.Options{CacheDir: standard, Token: "hf_default", Offline: true}, ""},
		"bad timeout":  {map[string]string{"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}, hub.Options{}, "HF_HUB_DOWNLOAD_TIMEOUT"},
		"no home":      {map[string]string{"HOME": "", "USERPROFILE": ""}, hub.Options{}, "HF_HOME"},
		"no home, cache": {map[string]string{"HOME": "", "USERPROFILE": "", "HF_HUB_CACHE": home, "HF_TOKEN": "t"},
			hub.Options{CacheDir: home, Token: "t"}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			o, err := hub.FromEnv(func(name string) string {
				if v, ok := tc.env[name]; ok {
					return v
				}
				if name == "HOME" || name == "USERPROFILE" {
					return home
				}
				return ""
			})
			if (tc.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if o.CacheDir != tc.want.CacheDir || o.Token != tc.want.Token || o.Endpoint != tc.want.Endpoint ||
				o.Offline != tc.want.Offline || o.NoSymlinks != tc.want.NoSymlinks || o.Timeout != tc.want.Timeout {
				t.Errorf("got %+v, want %+v", o, tc.want)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]hub.Options{
		"no cache folder":  {},
		"hub endpoint":     {CacheDir: "x", Endpoint: "ftp://x"},
		"https://":         {CacheDir: "x", Endpoint: "huggingface.co"},
		"blanks":           {CacheDir: "x", Token: "a b"},
		"want owner/name,": {CacheDir: "x"},
	} {
		id := "a/b"
		if strings.HasPrefix(want, "want") {
			id = "../b"
		}
		if _, err := hub.Download(t.Context(), hub.Ref{ID: id}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
