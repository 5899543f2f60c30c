package llamacpp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// childEnv makes this test binary a program that opens and runs a file: what
// would end the process ends that one.
const childEnv = "LLAMACPP_TEST_OPEN"

func TestMain(m *testing.M) {
	if library := os.Getenv(childEnv); library != "" {
		os.Exit(openFiles(library, os.Args[1:]))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// openFiles prints one line a file: what came of it.
func openFiles(library string, files []string) int {
	b, err := New(Options{Library: library})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, file := range files {
		fmt.Printf("%s: %s\n", filepath.Base(file), oneLine(run(b, file)))
	}
	return 0
}

func oneLine(err error) string {
	if err == nil {
		return "runs"
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func run(b *Backend, file string) error {
	if _, _, err := OpenText(file); err != nil {
		return err
	}
	s, err := b.Open(context.Background(), &modeldir.Folder{Model: file}, infer.OpenOptions{Threads: 1, Context: 64})
	if err != nil {
		return err
	}
	defer s.Close()
	for range 2 {
		if _, err = s.Eval(context.Background(), []int32{1, 2, 3}); err != nil {
			return err
		}
	}
	return nil
}

// inChild opens files in a child process and returns what it said of each.
func inChild(t *testing.T, files ...string) map[string]string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, files...)
	cmd.Env = append(os.Environ(), childEnv+"="+libraryFile(t), "GGML_NO_BACKTRACE=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	said := map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), ": ")
		said[name] = what
	}
	if err != nil {
		t.Errorf("the process ended after %d of %d files: %v\n%.600s", len(said), len(files), err, errs.Bytes())
	}
	return said
}

// patch replaces one occurrence of old by same-sized text.
func patch(t *testing.T, data []byte, old, new string) []byte {
	t.Helper()
	if len(old) != len(new) || !bytes.Contains(data, []byte(old)) {
		t.Fatalf("cannot put %q for %q", new, old)
	}
	return bytes.Replace(data, []byte(old), []byte(new), 1)
}

// setNumber changes the number behind a key of 32 bits.
func setNumber(t *testing.T, data []byte, key string, v uint32) []byte {
	t.Helper()
	out := bytes.Clone(data)
	full := binary.LittleEndian.AppendUint64(nil, uint64(len(key)))
	at := bytes.Index(out, append(full, key...))
	if at < 0 {
		t.Fatalf("there is no key %s", key)
	}
	binary.LittleEndian.PutUint32(out[at+8+len(key)+4:], v)
	return out
}

// TestBadFiles: files that lie are errors that name the file and say why, and
// never end the process.
func TestBadFiles(t *testing.T) {
	data, err := os.ReadFile(stories(t, "F32"))
	if err != nil {
		t.Fatal(err)
	}
	n := len(data)
	cases := []struct {
		name string
		data []byte
		want string
	}{
		{"whole", data, "runs"},
		{"empty", nil, "magic"},
		{"text", []byte("this is no model at all, but text"), "not a GGUF file"},
		{"cut in the header", data[:900], "header"},
		{"cut in the data", data[:n/2], "truncated"},
		{"cut at the end", data[:n-300], "truncated"},
		{"unknown architecture", patch(t, data, "\x05\x00\x00\x00\x00\x00\x00\x00llama", "\x05\x00\x00\x00\x00\x00\x00\x00lXama"), "lXama"},
		{"more layers", setNumber(t, data, "llama.block_count", 6), "missing"},
		{"fewer layers", setNumber(t, data, "llama.block_count", 4), "layer"},
		{"layers without end", setNumber(t, data, "llama.block_count", 1<<31), "block_count"},
		{"another width", setNumber(t, data, "llama.embedding_length", 128), "shape"},
		{"no width", setNumber(t, data, "llama.embedding_length", 0), "width"},
		{"no heads", setNumber(t, data, "llama.attention.head_count", 0), "heads"},
		{"heads that do not divide", setNumber(t, data, "llama.attention.head_count", 7), ""},
		{"many heads", setNumber(t, data, "llama.attention.head_count", 1<<30), "head"},
		{"no key heads", setNumber(t, data, "llama.attention.head_count_kv", 0), "key heads"},
		{"key heads that do not divide", setNumber(t, data, "llama.attention.head_count_kv", 3), ""},
		{"a middle layer of another size", setNumber(t, data, "llama.feed_forward_length", 100), "shape"},
		{"no context", setNumber(t, data, "llama.context_length", 0), "context_length"},
		{"epsilon below zero", setNumber(t, data, "llama.attention.layer_norm_rms_epsilon", math.Float32bits(-1e-5)), "epsilon"},
		{"no number", setNumber(t, data, "llama.rope.freq_base", 0x7fc00000), "freq_base"},
		{"another tensor name", patch(t, data, "blk.2.ffn_up.weight", "blk.2.ffn_uq.weight"), "blk.2.ffn_up.weight"},
	}
	dir := t.TempDir()
	var files []string
	for i, c := range cases {
		file := filepath.Join(dir, fmt.Sprintf("%02d.gguf", i))
		if err := os.WriteFile(file, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	said := inChild(t, files...)
	for i, c := range cases {
		name := filepath.Base(files[i])
		got := said[name]
		if !strings.Contains(got, c.want) || (c.want != "runs" && (got == "runs" || !strings.Contains(got, files[i]))) {
			t.Errorf("%s: %q, want an error with %q and the file", c.name, got, c.want)
		}
	}
	var format *tensor.FormatError
	if _, err := Check(t.Context(), files[5]); !errors.As(err, &format) {
		t.Errorf("a cut file is a %T", err)
	}
}

// mutations is how many changed files TestMutatedFiles tries.
var mutations = flag.Int("mutations", 60, "changed files that TestMutatedFiles opens")

// TestMutatedFiles changes bytes of the header at random: the process must live.
func TestMutatedFiles(t *testing.T) {
	data, err := os.ReadFile(stories(t, "Q8_0"))
	if err != nil {
		t.Fatal(err)
	}
	header := bytes.Index(data, []byte("output_norm.weight"))
	tensors := bytes.Index(data, []byte("token_embd.weight"))
	if header < 0 || tensors < 0 {
		t.Fatal("no tensors in the header")
	}
	seed := uint64(mutationSeed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	keys := bytes.Index(data, []byte("tokenizer.ggml.tokens"))
	dir := t.TempDir()
	var files []string
	for i := range *mutations {
		out := bytes.Clone(data)
		for range 1 + rnd.IntN(3) {
			at := rnd.IntN(keys) // the model's own keys
			if rnd.IntN(2) == 0 {
				at = min(header, tensors) + rnd.IntN(3000)
			}
			switch rnd.IntN(3) {
			case 0:
				out[at] ^= 1 << rnd.IntN(8)
			case 1:
				out[at] = byte(rnd.Uint32())
			default:
				binary.LittleEndian.PutUint32(out[at:], []uint32{0, 1, 3, 1 << 16, 1<<31 - 1, 1<<32 - 1}[rnd.IntN(6)])
			}
		}
		file := filepath.Join(dir, fmt.Sprintf("%04d.gguf", i))
		if err := os.WriteFile(file, out, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	said := inChild(t, files...)
	if len(said) == len(files) {
		runs := 0
		for _, s := range said {
			if s == "runs" {
				runs++
			}
		}
		t.Logf("%d of %d changed files run", runs, len(files))
		return
	}
	bad, _ := os.ReadFile(files[len(said)])
	keep := filepath.Join(os.TempDir(), "llamacpp-crash.gguf")
	_ = os.WriteFile(keep, bad, 0o600)
	t.Errorf("file %d ends the process; it is kept as %s", len(said), keep)
}

const mutationSeed = 1

// TestTensorTypes gives every kind of tensor every type the container knows.
func TestTensorTypes(t *testing.T) {
	data, err := os.ReadFile(stories(t, "F32"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"output_norm.weight", "token_embd.weight", "blk.1.attn_norm.weight", "blk.1.attn_q.weight", "blk.1.ffn_down.weight"} {
		at := bytes.Index(data, append(binary.LittleEndian.AppendUint64(nil, uint64(len(name))), name...))
		if at < 0 {
			t.Fatalf("no tensor %s", name)
		}
		at += 8 + len(name)
		at += 4 + 8*int(binary.LittleEndian.Uint32(data[at:]))
		for typ := range uint32(45) {
			out := bytes.Clone(data)
			binary.LittleEndian.PutUint32(out[at:], typ)
			file := filepath.Join(dir, fmt.Sprintf("%s-%d.gguf", name, typ))
			if err := os.WriteFile(file, out, 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	said := inChild(t, files...)
	runs := 0
	for _, f := range files {
		if said[filepath.Base(f)] == "runs" {
			runs++
		}
	}
	if len(said) < len(files) {
		t.Errorf("%s ends the process", filepath.Base(files[len(said)]))
	} else if runs < 5 {
		t.Errorf("%d of %d files run, want those of float types at least", runs, len(files))
	}
}

// FuzzFacts reads headers of any content: no panic, and sums that make sense.
func FuzzFacts(f *testing.F) {
	var head bytes.Buffer
	w := gguf.NewWriter(&head, gguf.WriterOptions{})
	w.Set("general.architecture", "llama")
	w.Set("llama.block_count", uint32(1))
	w.Set("llama.embedding_length", uint32(8))
	w.Set("llama.attention.head_count", []uint32{2})
	w.Set("llama.context_length", uint32(16))
	if err := w.WriteHeader(); err != nil {
		f.Fatal(err)
	}
	f.Add(head.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := gguf.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		facts, err := readFacts([]*gguf.Reader{r})
		if err != nil {
			return
		}
		if facts.Bytes() < 0 || facts.Bytes() > int64(len(data)) || facts.Context < 0 {
			t.Errorf("%+v of %d bytes", facts, len(data))
		}
		for _, n := range facts.CacheElements {
			if n < 0 {
				t.Errorf("a cache of %d", n)
			}
		}
	})
}
