package oracle

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// LlamaCppSource returns a folder with the source of the llama.cpp release that
// [LlamaCpp] has the libraries of, as a git bundle in the npm package
// node-llama-cpp carries it: convert_hf_to_gguf.py and its parts above all.
func LlamaCppSource(t testing.TB) string {
	t.Helper()
	bundle := filepath.Join(NPM(t, "node-llama-cpp", llamaCppRelease), "llama", "gitRelease.bundle")
	dir := filepath.Join(Dir(t), "llama.cpp-source-"+llamaCppVersion)
	if _, err := os.Stat(filepath.Join(dir, "convert_hf_to_gguf.py")); err == nil {
		return dir
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		t.Fatalf("clear %s: %v", tmp, err)
	}
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", bundle, tmp).CombinedOutput(); err != nil {
		missing(t, "git is needed to unpack the source of llama.cpp: %v\n%s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		t.Fatalf("keep the source of llama.cpp: %v", err)
	}
	return dir
}
