package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// tryDeviceName is a command of llama-pajamas-run that it starts itself.
const tryDeviceName = "try-device"

// deviceRequest is what the child reads from standard input.
type deviceRequest struct {
	Model   string           `json:"model"`
	Options llamacpp.Options `json:"options"`
}

// tryDeviceCommand runs two tokens of a model on the devices: llama.cpp ends the
// process where a device fails, which should not be the one with the user in it.
func tryDeviceCommand(c *common) *cobra.Command {
	cmd := command(tryDeviceName, "Try a model on a device (started by the program itself)", "", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string) error {
			var r deviceRequest
			if err := json.NewDecoder(io.LimitReader(c.In, 1<<20)).Decode(&r); err != nil {
				return usagef(cmd, "standard input holds no request: %w", err)
			}
			return c.tryDevice(cmd.Context(), r)
		})
	cmd.Hidden = true
	return cmd
}

func (c *common) tryDevice(ctx context.Context, r deviceRequest) error {
	r.Options.Depend = c.dependOptions()
	r.Options.OnAbort = func(why string) {
		fmt.Fprintln(c.Err, why)
		os.Exit(ExitFailure) // without the dump of a crash
	}
	b, err := llamacpp.New(r.Options)
	if err != nil {
		return err
	}
	s, err := b.Open(ctx, &modeldir.Folder{Model: r.Model}, infer.OpenOptions{NoFitCheck: true})
	if err != nil {
		return err
	}
	defer s.Close()
	// A prompt and a step: devices have other code for each.
	room := min(s.Info().MaxContext-1, 40)
	if room < 1 {
		return nil
	}
	if _, err := s.Eval(ctx, make([]int32, room)); err != nil {
		return err
	}
	_, err = s.Eval(ctx, []int32{0})
	return err
}

// deviceTime is how long a child may take: shaders and kernels are compiled.
const deviceTime = 3 * time.Minute

// deviceWorks tries the model on the backend's devices in a child process, once
// for the library, the devices and the layers.
func (c *common) deviceWorks(ctx context.Context, b *llamacpp.Backend, o llamacpp.Options, model string) error {
	if c.Program == "" || o.GPULayers == 0 || len(b.GPUs()) == 0 {
		return nil
	}
	file := c.deviceFile(b, o, model)
	if file != "" {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	c.note("trying the model on %s, once", b.GPUs()[0].Name)
	ctx, cancel := context.WithTimeoutCause(ctx, deviceTime, errors.New("the trial of the device took too long"))
	defer cancel()
	o.Logger, o.OnAbort = nil, nil
	err := c.child(ctx, tryDeviceName, deviceRequest{Model: model, Options: o}, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("llama.cpp cannot use %s: %w", b.GPUs()[0].Name, err)
	}
	if file != "" {
		// What is not remembered is tried again.
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
			_ = os.WriteFile(file, nil, 0o644)
		}
	}
	return nil
}

// deviceFile is the file whose being there says that the trial went well.
func (c *common) deviceFile(b *llamacpp.Backend, o llamacpp.Options, model string) string {
	dir, err := c.CacheDir()
	if err != nil {
		return ""
	}
	var devices []string
	for _, d := range b.GPUs() {
		devices = append(devices, d.Name, d.Description)
	}
	info, err := os.Stat(o.Library)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendln(nil, o.Library, info.ModTime().UnixNano(), strings.Join(devices, "|"), driverVersion(), o.KVCache, o.Flash, o.GPULayers, o.RPC, model))
	return filepath.Join(dir, "autoselect", "device-"+hex.EncodeToString(sum[:8]))
}

// driverVersion is NVIDIA's driver, "" where there is none: another may refuse
// what this one runs.
func driverVersion() string {
	text, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return ""
	}
	return string(text)
}
