package samples

import (
	"embed"
	"io/fs"
)

//go:embed stories260K
var files embed.FS

// Stories260K is the model's folder: config.json, model.safetensors (F32, 1
// MB), tokenizer.json, generation_config.json, and expected_greedy.json, the
// 255 ids and the text that greedy decoding from <s> must give.
func Stories260K() fs.FS {
	dir, err := fs.Sub(files, "stories260K")
	if err != nil {
		panic(err) // the name is a valid path
	}
	return dir
}
