package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestSource runs the scripts of testdata/source: models by their hub ids. A
// server at $HF_ENDPOINT has
//
//	tiny/stories   the sample, at main and v1
//	tiny/private   the same, for the token open-sesame
//	tiny/ggufs     two GGUF files, which are none
//	tiny/pickle    a pickle
func TestSource(t *testing.T) {
	stories, err := fakehub.FromFS(samples.Stories260K())
	if err != nil {
		t.Fatal(err)
	}
	s := fakehub.New(t, map[string]*fakehub.Model{
		"tiny/stories": {Files: stories, Revisions: []string{"v1"}, Commit: strings.Repeat("c0", 20)},
		"tiny/private": {Files: stories, Token: "open-sesame"},
		"tiny/ggufs":   {Files: map[string][]byte{"a-Q4_K_M.gguf": []byte("no"), "a-Q8_0.gguf": []byte("neither")}},
		"tiny/pickle":  {Files: map[string][]byte{"config.json": []byte("{}"), "pytorch_model.bin": []byte("x")}},
	})
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "source"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "hf"))
			e.Setenv("HF_ENDPOINT", s.URL)
			return os.CopyFS(filepath.Join(e.WorkDir, "local", "stories"), samples.Stories260K())
		},
	})
}
