package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
)

// imatrixChunk is the number of tokens that are run together, for the record.
const imatrixChunk = layerwise.Window

// imatrixCommand makes an importance matrix for GGUF files.
func imatrixCommand(c *common) *cobra.Command {
	var o calibration
	var model, lora, output string
	cmd := command("imatrix", "Make an importance matrix for GGUF files, in llama.cpp's format",
		`Runs a text through the checkpoint's float32 model, a layer at a time, and
writes which input channels of each matrix matter, in the format of llama.cpp's
imatrix (GGUF). convert --gguf-imatrix and llama-quantize --imatrix read it:

  llama-pajamas-quant imatrix --model M --text my.txt --output imatrix.gguf
  llama-pajamas-quant convert --model M --output O --formats gguf \
    --gguf-precision Q4_K_M --gguf-imatrix imatrix.gguf

An interrupted run goes on where it was.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			if output == "" || model == "" {
				return usagef(cmd, "--model and --output are required")
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			spec, stats, err := c.statsOf(cmd, model, lora, o)
			if err != nil {
				return err
			}
			m, err := togguf.NewImatrix(spec, stats, imatrixChunk)
			if err != nil {
				return err
			}
			if err := writeImatrix(output, m); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "%s: %d matrices, %s\n", output, len(m.Entries), stats.Source)
			return nil
		})
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "checkpoint, as for convert (required)")
	f.StringVar(&lora, "lora", "", loraHelp)
	f.StringVar(&output, "output", "", "file to write (required)")
	o.bindText(f)
	return cmd
}

// writeImatrix writes a file that appears whole or not at all.
func writeImatrix(path string, m *togguf.Imatrix) error {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("write importance matrix: %w", err)
	}
	_, err = m.WriteTo(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}
