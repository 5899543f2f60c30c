package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets test scripts, and the programs themselves, start the programs
// as processes: they are this test binary under other names.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"llama-pajamas-quant":    func() { os.Exit(Main(Quant)) },
		"llama-pajamas-run-onnx": func() { os.Exit(Main(RunONNX)) },
		"llama-pajamas-run":      func() { os.Exit(Main(RunAny)) },
	})
}
