package cli

import "fmt"

// libraryEnv names the variable that points at the ONNX Runtime library.
const libraryEnv = "LLAMA_PAJAMAS_ONNXRUNTIME"

// findORT finds the ONNX Runtime library.
func (c *common) findORT() (string, error) {
	if p := c.Getenv(libraryEnv); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("no ONNX Runtime library; set %s", libraryEnv)
}
