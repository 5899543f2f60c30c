package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

var sampleModel = filepath.Join("..", "..", "samples", "stories260K")

// runText runs the program in this process, without a library.
func runText(t *testing.T, in string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(t.Context(), RunONNX, args, Stdio{In: strings.NewReader(in), Out: &out, Err: &errs})
	if code != ExitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, errs.Bytes())
	}
	return out.String()
}

// TestTokenizeInverse: both in a row give the input back, for long lines, empty
// ones, and a last one without a newline.
func TestTokenizeInverse(t *testing.T) {
	for name, text := range map[string]string{
		"empty input":     "",
		"empty lines":     "\n\n",
		"no last newline": "a\nb",
		"white space":     "  a \t b\r\n \n",
		"long line":       strings.Repeat("a cat sat on the mat, 東京 ", 10_000) + "\nshort\n",
		"control tokens":  "<s> </s> <unk>\n",
	} {
		t.Run(name, func(t *testing.T) {
			ids := runText(t, text, "tokenize", "--model", sampleModel)
			got := runText(t, ids, "detokenize", "--model", sampleModel)
			want := text
			if want != "" && !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			if got != want {
				t.Errorf("%.200q comes back as %.200q", want, got)
			}
			if lines := strings.Count(ids, "\n"); lines != strings.Count(want, "\n") {
				t.Errorf("%d arrays for %d lines", lines, strings.Count(want, "\n"))
			}
		})
	}
}

// TestTokenizeStreams: a line's ids come before the next line is read.
func TestTokenizeStreams(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan int)
	go func() {
		code := Run(t.Context(), RunONNX, []string{"tokenize", "--model", sampleModel}, Stdio{In: inR, Out: outW, Err: io.Discard})
		outW.Close()
		done <- code
	}()
	out := bufio.NewReader(outR)
	for i := range 3 {
		if _, err := fmt.Fprintf(inW, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
		line, err := out.ReadString('\n') // waits for ever where nothing is written out
		if err != nil || !strings.HasPrefix(line, "[") {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
	}
	inW.Close()
	if code := <-done; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}
