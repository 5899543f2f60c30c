package onnx_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

const tinyText = `IR version   10
operator set ai.onnx 21
operator set com.microsoft 1
producer     llama-pajamas test
doc          a model of three nodes
metadata     recipe = none
metadata     evil = "\x1b[31m"
graph        tiny

1 inputs
  ids                                      INT64     [batch, seq]

1 outputs
  logits                                   FLOAT     [?, 10]

3 nodes
       1 Gather
       1 MatMul
       1 Reshape

3 initializers
  table                                    FLOAT     [10, 4]                       160 bytes  model.onnx.data @0
  head                                     FLOAT     [4, 10]                       160 bytes  model.onnx.data @0
  flat                                     INT64     [2]                            16 bytes  inline
  total 176 bytes: 16 inline, 160 external (shared ranges counted once)
`

func TestDescribe(t *testing.T) {
	m, _ := tinyModel(t)
	m.SetMeta("evil", "\x1b[31m")
	var b bytes.Buffer
	if err := onnx.Describe(&b, m); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tinyText, b.String()); d != "" {
		t.Errorf("description (-want +got):\n%s", d)
	}
}
