package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// verify uses a release as its users will: checks the sums, unpacks the archive
// of a platform that runs here, asks the programs for their version, converts
// the model they carry, and looks at what came out.
func (o *options) verify(ctx context.Context, platform string) error {
	src, err := o.source(ctx)
	if err != nil {
		return err
	}
	if err := checkSums(o.output); err != nil {
		return err
	}
	if strings.HasPrefix(platform, "windows/") {
		return errors.New("verifying is done where archives are .tar.gz files")
	}
	tmp, err := os.MkdirTemp("", "llama-pajamas-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := unpack(filepath.Join(o.output, src.archive(platform)), tmp); err != nil {
		return fmt.Errorf("unpack the archive of %s: %w", platform, err)
	}
	dir := filepath.Join(tmp, src.name(platform))
	run := func(program string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, program), args...)
		cmd.Dir = tmp
		cmd.Env = []string{"HOME=" + tmp, "LLAMA_PAJAMAS_CACHE=" + filepath.Join(tmp, "cache"), "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return string(out), nil
	}
	for _, p := range o.names() {
		out, err := run(p, "--version")
		if err != nil {
			return err
		}
		want := fmt.Sprintf("%s %s %s", p, src.version, platform)
		if src.commit != "" {
			want += fmt.Sprintf(", commit %.12s", src.commit)
		}
		want += "\n"
		if out != want {
			return fmt.Errorf("%s --version says %q, want %q", p, out, want)
		}
	}
	model := filepath.Join(tmp, "stories")
	if _, err := run("llama-pajamas-quant", "convert", "--model", "sample:stories260K", "--output", model, "--formats", "onnx,gguf,mlx", "--target-eps", "cpu", "--target-precisions", "int8", "--no-verify"); err != nil {
		return err
	}
	for _, artifact := range []string{"onnx/base/fp16", "onnx/cpu/int8", "gguf/Q4_K_M", "mlx/4bit"} {
		if _, err := run("llama-pajamas-quant", "inspect", filepath.Join(model, artifact)); err != nil {
			return err
		}
	}
	return nil
}

// checkSums compares the files of a release with its sums.
func checkSums(dir string) error {
	want, err := os.ReadFile(filepath.Join(dir, sums))
	if err != nil {
		return err
	}
	got, err := sumsOf(dir)
	if err != nil {
		return err
	}
	if got != string(want) {
		return fmt.Errorf("the files of %s are not those of its %s: have\n%swant\n%s", dir, sums, got, want)
	}
	return nil
}
