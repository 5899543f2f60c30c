// Command generate writes api_index.go: the place of each C function we call
// in struct OrtApi, read from a copy of onnxruntime_c_api.h.
//
//	go run . ../api_index.go [onnxruntime_c_api.h]
//
// Without a header it takes the one in the Go module below, which carries ONNX
// Runtime 1.24's unchanged.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// used lists the functions of the binding, in the order they are written.
const used = `
GetErrorCode GetErrorMessage ReleaseStatus
CreateEnv CreateEnvWithCustomLogger DisableTelemetryEvents ReleaseEnv
GetAvailableProviders ReleaseAvailableProviders GetBuildInfoString
CreateSession CreateSessionFromArray ReleaseSession
CreateSessionOptions ReleaseSessionOptions
SetOptimizedModelFilePath SetSessionExecutionMode EnableProfiling DisableMemPattern DisableCpuMemArena
SetSessionLogSeverityLevel SetSessionGraphOptimizationLevel SetIntraOpNumThreads SetInterOpNumThreads
AddFreeDimensionOverride AddFreeDimensionOverrideByName AddSessionConfigEntry
AddInitializer AddExternalInitializers AddExternalInitializersFromFilesInMemory
SessionOptionsSetLoadCancellationFlag
SessionOptionsAppendExecutionProvider
CreateCUDAProviderOptions UpdateCUDAProviderOptions ReleaseCUDAProviderOptions SessionOptionsAppendExecutionProvider_CUDA_V2
CreateTensorRTProviderOptions UpdateTensorRTProviderOptions ReleaseTensorRTProviderOptions SessionOptionsAppendExecutionProvider_TensorRT_V2
SessionGetInputCount SessionGetOutputCount SessionGetInputName SessionGetOutputName
SessionGetInputTypeInfo SessionGetOutputTypeInfo ReleaseTypeInfo
CastTypeInfoToTensorInfo GetTensorElementType GetDimensionsCount GetDimensions GetSymbolicDimensions
GetTensorTypeAndShape ReleaseTensorTypeAndShapeInfo
SessionGetModelMetadata ReleaseModelMetadata
ModelMetadataGetProducerName ModelMetadataGetGraphName ModelMetadataGetDomain ModelMetadataGetDescription
ModelMetadataGetVersion ModelMetadataGetCustomMetadataMapKeys ModelMetadataLookupCustomMetadataMap
SessionEndProfiling
Session_GetEpGraphAssignmentInfo EpAssignedSubgraph_GetEpName EpAssignedSubgraph_GetNodes
EpAssignedNode_GetName EpAssignedNode_GetOperatorType
CreateTensorAsOrtValue CreateTensorWithDataAsOrtValue GetTensorMutableData GetTensorMemoryInfo IsTensor ReleaseValue
CopyTensors
CreateMemoryInfo MemoryInfoGetName MemoryInfoGetId ReleaseMemoryInfo
GetAllocatorWithDefaultOptions CreateAllocator AllocatorFree ReleaseAllocator
CreateRunOptions AddRunConfigEntry RunOptionsSetRunTag RunOptionsSetTerminate RunOptionsUnsetTerminate ReleaseRunOptions
Run RunWithBinding
CreateIoBinding BindInput BindOutput BindOutputToDevice GetBoundOutputValues ClearBoundInputs ClearBoundOutputs
SynchronizeBoundInputs SynchronizeBoundOutputs ReleaseIoBinding
`

var (
	comment = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	version = regexp.MustCompile(`#define ORT_API_VERSION (\d+)`)
	member  = regexp.MustCompile(`^(?:ORT_API2_STATUS\(\s*(\w+)|ORT_CLASS_RELEASE\(\s*(\w+)|ORT_API_T\([^,]+,\s*(\w+)|[^()]*\(\s*ORT_API_CALL\s*\*\s*(\w+)\s*\))`)
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// headerModule is where the header of API version 24 is.
const headerModule = "github.com/yalue/onnxruntime_go@v1.27.0"

func run() error {
	var file string
	switch len(os.Args) {
	case 2:
		dir, err := download()
		if err != nil {
			return err
		}
		file = filepath.Join(dir, "onnxruntime_c_api.h")
	case 3:
		file = os.Args[2]
	default:
		return fmt.Errorf("usage: generate OUTPUT [HEADER]")
	}
	header, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	version, index, err := parse(string(header))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	source, err := table(version, index)
	if err != nil {
		return err
	}
	return os.WriteFile(os.Args[1], source, 0o644)
}

// download fetches the module through the ordinary Go client.
func download() (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", headerModule)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w", headerModule, err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", fmt.Errorf("download %s: %w", headerModule, err)
	}
	return m.Dir, nil
}

// parse returns the API version and the place of each function.
func parse(header string) (string, map[string]int, error) {
	text := comment.ReplaceAllString(header, "")
	ver := version.FindStringSubmatch(text)
	_, body, ok := strings.Cut(text, "struct OrtApi {")
	if ver == nil || !ok {
		return "", nil, fmt.Errorf("no API version or no struct OrtApi")
	}
	body, _, _ = strings.Cut(body, "};")
	index := map[string]int{}
	for decl := range strings.SplitSeq(body, ";") {
		decl = strings.Join(strings.Fields(decl), " ")
		if decl == "" {
			continue
		}
		m := member.FindStringSubmatch(decl)
		if m == nil {
			return "", nil, fmt.Errorf("not understood: %s", decl)
		}
		name := m[1] + m[3] + m[4]
		if m[2] != "" {
			name = "Release" + m[2]
		}
		index[name] = len(index)
	}
	return ver[1], index, nil
}

func table(version string, index map[string]int) ([]byte, error) {
	w := new(bytes.Buffer)
	fmt.Fprintf(w, "// Code generated by _generate from onnxruntime_c_api.h, API version %s; DO NOT EDIT.\n\npackage ort\n\n", version)
	fmt.Fprintf(w, "// apiVersion is the version of the header the table was made from. The\n// struct only ever grows at its end, so a newer library serves it too.\nconst apiVersion = %s\n\n", version)
	fmt.Fprintf(w, "// apiFunctions is the number of function pointers in struct OrtApi.\nconst apiFunctions = %d\n\n", len(index))
	fmt.Fprintf(w, "// The place of each function in struct OrtApi.\nconst (\n")
	for name := range strings.FieldsSeq(used) {
		i, ok := index[name]
		if !ok {
			return nil, fmt.Errorf("struct OrtApi has no %s", name)
		}
		fmt.Fprintf(w, "\tfn%s = %d\n", strings.ReplaceAll(name, "_", ""), i)
	}
	fmt.Fprintf(w, ")\n")
	return format.Source(w.Bytes())
}
