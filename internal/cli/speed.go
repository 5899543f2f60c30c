package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// openForSpeed loads an artifact; its load time covers library, graph and
// weights.
func openForSpeed(ctx context.Context, req speedRequest) (*loaded, error) {
	if req.Format != formatONNX {
		return openSession(ctx, req)
	}
	l := &loaded{}
	var err error
	if l.folder, err = modeldir.Open(req.Dir); err != nil {
		return nil, err
	}
	if l.tok, err = tokenizer.Load(req.Dir); err != nil {
		return nil, err
	}
	start := time.Now()
	if l.backend, err = onnxruntime.New(onnxruntime.Options{Library: req.Library, Provider: req.Provider}); err != nil {
		return nil, err
	}
	if l.session, err = l.backend.Open(ctx, l.folder, infer.OpenOptions{Context: speedContext(l.folder, req), Threads: req.Threads}); err != nil {
		l.backend.Close()
		return nil, err
	}
	l.load = time.Since(start)
	return l, nil
}

// speedPrompt is n tokens of ordinary text, repeated where n is large.
func speedPrompt(tok *tokenizer.Tokenizer, n int) ([]int32, error) {
	ids := tok.Encode(verify.Text, tokenizer.EncodeOptions{})
	if len(ids) == 0 {
		return nil, fmt.Errorf("the tokenizer makes no tokens of the text")
	}
	for len(ids) < n {
		ids = append(ids, ids...)
	}
	return ids[:n], nil
}

// peakMemory is the most this process has held resident, in bytes; what it
// holds now where the system does not tell the most (all but Linux); 0 where
// neither is known.
func peakMemory(ctx context.Context) int64 {
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		_, rest, _ := strings.Cut(string(b), "VmHWM:")
		var kb int64
		if _, err := fmt.Sscanf(rest, "%d kB", &kb); err == nil {
			return kb << 10
		}
	}
	p, err := process.NewProcessWithContext(ctx, int32(os.Getpid()))
	if err != nil {
		return 0
	}
	m, err := p.MemoryInfoWithContext(ctx)
	if err != nil {
		return 0
	}
	return int64(m.RSS)
}
