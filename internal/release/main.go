// Command release builds what a release consists of: archives of the programs
// for each platform with manual pages and shell completions, the list of their
// parts as CycloneDX JSON, release notes, and SHA-256 sums of all of them.
//
// The same commit, built by the same Go release, gives the same bytes anywhere:
// times are the commit's, paths are trimmed, order is sorted. It runs in the
// root of a checkout.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert"
)

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.output, "output", "dist", "folder to write; it must not be there, or be a release's")
	platforms := flag.String("platforms", strings.Join(allPlatforms, ","), "OS/ARCH,…")
	verify := flag.Bool("verify", true, "unpack this machine's archive and use it")
	flag.BoolVar(&o.changes, "changes", false, "build a checkout with changes; the programs name no commit then")
	version := flag.Bool("print-version", false, "print the version and end")
	flag.Parse()
	if *version {
		fmt.Println(convert.Version)
		return
	}
	o.platforms = strings.Split(*platforms, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := o.release(ctx)
	if err == nil && *verify {
		err = o.verify(ctx, runtime.GOOS+"/"+runtime.GOARCH)
	}
	if err != nil {
		log.Fatal("release: ", err)
	}
}

// allPlatforms are those that a release has archives for.
var allPlatforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// allPrograms are the folders of cmd.
var allPrograms = []string{"llama-pajamas-quant", "llama-pajamas-run", "llama-pajamas-run-onnx"}

// options of a release.
type options struct {
	root      string // of the checkout; "" is the current folder
	output    string
	platforms []string
	programs  []string // nil: all
	changes   bool     // build although files were changed since the commit
}

func (o *options) names() []string {
	if o.programs == nil {
		return allPrograms
	}
	return o.programs
}

// release writes everything into a folder beside the output and renames it.
func (o *options) release(ctx context.Context) (err error) {
	if o.root == "" {
		o.root = "."
	}
	src, err := o.source(ctx)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.output); err == nil && !isRelease(o.output) {
		return fmt.Errorf("%s is there and is no release: remove it, or give another --output", o.output)
	}
	staging := o.output + ".partial"
	if err := errors.Join(os.RemoveAll(staging), os.MkdirAll(staging, 0o755)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(staging))
		}
	}()
	if err := o.write(ctx, src, staging); err != nil {
		return err
	}
	if err := os.RemoveAll(o.output); err != nil {
		return err
	}
	return os.Rename(staging, o.output)
}
