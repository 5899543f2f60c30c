package onnx_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// suiteScript writes the models of the onnx project's own node tests whose
// operators are in the table and have the same version there as at operator
// set 25, stamped 25.
const suiteScript = `
import json, os, sys, warnings
warnings.simplefilter('ignore')
import onnx, onnx.defs
from onnx.backend.test.case.node import collect_testcases
out, wanted = sys.argv[1], set(json.loads(sys.argv[2]))
for case in collect_testcases(None):
    m = case.model
    if len(m.opset_import) != 1 or m.opset_import[0].domain != '' or any(n.op_type not in wanted for n in m.graph.node):
        continue
    since = lambda n, v: onnx.defs.get_schema(n.op_type, v, '').since_version
    if any(since(n, m.opset_import[0].version) != since(n, 25) for n in m.graph.node):
        continue
    m.opset_import[0].version = 25
    m.ir_version = 13
    onnx.save(m, os.path.join(out, case.name + '.onnx'))
`

// nodeSuite returns the folder of those models. Making them takes the library
// half a minute, so they are kept.
func nodeSuite(t *testing.T) string {
	t.Helper()
	names := strings.Fields(wanted[""])
	arg, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	version := oracle.Run(t, "import onnx; print(onnx.__version__, end='')", nil)
	dir := filepath.Join(oracle.Dir(t), fmt.Sprintf("onnx-node-suite-%s-%08x", version, crc32.ChecksumIEEE(append(arg, suiteScript...))))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	tmp, err := os.MkdirTemp(oracle.Dir(t), "suite-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	oracle.Run(t, suiteScript, nil, tmp, string(arg))
	// The first of two processes at once wins; both have the same content.
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(dir); statErr != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOracleNodeSuite: the onnx project's node tests decode, have no problems,
// and the outputs they declare agree with inference.
func TestOracleNodeSuite(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(nodeSuite(t), "*.onnx"))
	if err != nil || len(files) < 300 {
		t.Fatalf("only %d models: %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := onnx.Decode(b)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if len(m.Dropped) > 0 {
			continue // sequences and optionals
		}
		if err := onnx.Check(m, onnx.CheckOptions{}); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
