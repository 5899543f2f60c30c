package checkpoint

import "github.com/llama-pajamas/llama-pajamas/tensor"

func openGGUF(path string, o Options) (*Checkpoint, error) {
	return nil, &tensor.UnsupportedError{What: "GGUF file " + path}
}

// readable reports whether tensors of the stored type convert to float32.
func readable(typ string) bool {
	d, ok := tensor.ParseDType(typ)
	return ok && d.IsFloat()
}
