package modeldir

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PackageFile makes onnx/ a model package of ONNX Runtime: one folder of
// variants, of which the runtime takes what suits the machine. Schema 1.0 of
// onnxruntime-genai's docs/model_package.md; released builds of 0.18 read no
// packages, so it is written by the schema and was not run.
const PackageFile = "manifest.json"

// modelPackage is the package's manifest.json.
type modelPackage struct {
	SchemaVersion string                      `json:"schema_version"`
	Components    map[string]packageComponent `json:"components"`
}

type packageComponent struct {
	Variants map[string]packageVariant `json:"variants"`
}

// packageVariant is one artifact. Several of one execution provider are told
// apart by CompatibilityString.
type packageVariant struct {
	EP                  string `json:"ep"`
	Device              string `json:"device"`
	CompatibilityString string `json:"compatibility_string"`
	VariantDirectory    string `json:"variant_directory"`
}

// packageDevices are the devices of targets that have one.
var packageDevices = map[string]packageVariant{
	"cpu":      {EP: "CPUExecutionProvider", Device: "cpu"},
	"cuda":     {EP: "CUDAExecutionProvider", Device: "gpu"},
	"tensorrt": {EP: "TensorrtExecutionProvider", Device: "gpu"},
	"coreml":   {EP: "CoreMLExecutionProvider", Device: "npu"},
}

// WritePackage writes the model package of the ONNX artifacts in an output
// folder, if there are any for a device.
func WritePackage(dir string) error {
	list, err := Artifacts(dir)
	if err != nil {
		return err
	}
	variants := map[string]packageVariant{}
	for _, a := range list {
		v, ok := packageDevices[a.Target]
		if a.Format != "onnx" || !ok {
			continue
		}
		v.CompatibilityString = a.Recipe
		v.VariantDirectory = strings.TrimPrefix(a.Path, "onnx/")
		variants[a.Target+"-"+a.Recipe] = v
	}
	if len(variants) == 0 {
		return nil
	}
	data, err := json.MarshalIndent(modelPackage{
		SchemaVersion: "1.0", Components: map[string]packageComponent{"model": {variants}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the model package of %s: %w", dir, err)
	}
	path := filepath.Join(dir, "onnx", PackageFile)
	if err = os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("write the model package of %s: %w", dir, cause(err))
	}
	return nil
}
