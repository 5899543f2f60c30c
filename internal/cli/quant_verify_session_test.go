package cli

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

func llamaLibrary(t testing.TB) string {
	if runtime.GOOS == "darwin" {
		return filepath.Join(oracle.LlamaCpp(t), "libllama.dylib")
	}
	return filepath.Join(oracle.LlamaCpp(t), "libllama.so")
}

// TestQuantSession runs the scripts of testdata/quant-session: figures of what
// llama.cpp and mlx-lm run. Neither is named to the program until a script does.
func TestQuantSession(t *testing.T) {
	library, llamacpp := oracle.Library(t), llamaLibrary(t)
	python, err := mlxlm.Setup(context.Background(), mlxlm.SetupOptions{CacheDir: oracle.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "quant-session"),
		Setup: func(e *testscript.Env) error {
			e.Setenv(libraryEnv, library)
			e.Setenv("LLAMACPP", llamacpp)
			e.Setenv("MLXPYTHON", python)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("SAMPLE", filepath.Join(e.WorkDir, "stories260K"))
			return os.CopyFS(filepath.Join(e.WorkDir, "stories260K"), samples.Stories260K())
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"patch": patchCmd},
	})
}

// TestRoomFor asks for less and for more than any disk has, in a folder that is
// not there yet.
func TestRoomFor(t *testing.T) {
	output := filepath.Join(t.TempDir(), "a", "b")
	if err := roomFor(1, output); err != nil {
		t.Errorf("one byte: %v", err)
	}
	if err := roomFor(math.MaxInt64, output); err == nil {
		t.Error("2⁶³-1 bytes fit")
	}
}

// TestSessionOrder wants the figures of GGUF types in the order of their bits.
func TestSessionOrder(t *testing.T) {
	ctx := t.Context()
	src := filepath.Join(t.TempDir(), "stories260K")
	if err := os.CopyFS(src, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(ctx, src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	var o convert.GGUF
	names := []string{"F32", "Q8_0", "Q5_0", "Q4_0"}
	for _, n := range names {
		typ, err := togguf.ParseFileType(n)
		if err != nil {
			t.Fatal(err)
		}
		o.Types = append(o.Types, typ)
	}
	job, err := convert.New(ctx, ck, convert.Options{Output: t.TempDir(), Reference: true, NoBase: true, GGUF: o})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	env := func(key string) string { return map[string]string{llamaEnv: llamaLibrary(t)}[key] }
	c := &common{Stdio: Stdio{Out: io.Discard, Err: io.Discard, Env: env}, Library: oracle.Library(t), Threads: 1}
	if problems, err := verifyJob(ctx, c, job); err != nil || problems {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	kl := map[string]float64{}
	for _, a := range job.Artifacts {
		if a.Reference {
			continue
		}
		f := a.Metadata.Fidelity
		if f == nil || f.Tokens == 0 {
			t.Fatalf("%s was not measured: %+v", a.Dir, f)
		}
		kl[a.Recipe.Precision] = f.KLMean
		t.Logf("%s: KL %.3g, top-1 %.4f, perplexity × %.6f, largest difference %.3g", a.Dir, f.KLMean, f.Top1Agreement, f.PerplexityRatio, f.MaxAbsDelta)
	}
	for i, n := range names[1:] {
		if kl[n] <= kl[names[i]] {
			t.Errorf("KL of %s is %g, of %s %g: want more with fewer bits", n, kl[n], names[i], kl[names[i]])
		}
	}
	if kl["F32"] > 1e-4 || kl["Q8_0"] > 5e-3 || kl["Q4_0"] < 0.02 {
		t.Errorf("KL %v: want F32 next to 0, Q8_0 small, Q4_0 larger", kl)
	}

	// A file that does not run is a problem and is kept, without figures.
	last := len(names) - 1
	job.Artifacts[last].Metadata.Fidelity = nil
	file, _ := firstGGUF(job.Staged(last))
	if err := os.Truncate(file, 1000); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c.Err = &stderr
	problems, err := verifyJob(ctx, c, job)
	if err != nil || !problems || len(job.Failures()) > 0 || job.Artifacts[last].Metadata.Fidelity != nil {
		t.Errorf("a damaged file: problems %v, error %v, failures %v, figures %v", problems, err, job.Failures(), job.Artifacts[last].Metadata.Fidelity)
	}
	if want := job.Artifacts[last].Dir + ": does not run: "; !strings.HasPrefix(stderr.String(), want) || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("standard error is %q, want one line beginning with %q", stderr.Bytes(), want)
	}
}
