//go:build !linux

package runcode

import (
	"context"
	"fmt"
	"runtime"
)

func run(context.Context, string, string, Options) (Result, error) {
	return Result{}, fmt.Errorf("%w: programs are walled in with Linux's namespaces, which %s does not have; use a Linux machine or container, or leave out the permission to run code", ErrUnsupported, runtime.GOOS)
}
