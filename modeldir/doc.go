// Package modeldir is the folder that convert writes and infer reads: where
// the two meet. It knows the files of a model folder, the schema of its
// metadata.json, genai_config.json and generation_config.json, and where the
// chat template is found. It opens no session and reads no weights.
//
// A folder of one ONNX artifact holds model.onnx, model.onnx.data,
// metadata.json, genai_config.json, generation_config.json, tokenizer files
// and chat_template.jinja. Folders written by onnxruntime-genai's builder,
// which lack metadata.json, can be read too.
//
// Values are plain data; nothing here is safe for concurrent writing.
package modeldir
