package hub

import (
	"context"
	"time"
)

// SetWait makes o call f instead of sleeping before another try.
func SetWait(o *Options, f func(ctx context.Context, d time.Duration) error) { o.wait = f }

// ParseTree reads the cache's list of files.
var ParseTree = parseTree
