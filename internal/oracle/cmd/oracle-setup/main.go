// Command oracle-setup installs the reference programs that tests compare
// with, once for each list of requirements, and prints the environment's
// folder. `make oracle` runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := oracle.Install(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle-setup:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
