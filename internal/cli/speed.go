package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/llama-pajamas/llama-pajamas/tokenizer"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

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
