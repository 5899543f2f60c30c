package pb

// The compiler is the one inside the Python package grpcio-tools (1.85.1 was
// used), the plug-in is google.golang.org/protobuf/cmd/protoc-gen-go of the
// version in go.mod:
//
//	go build -o "$TMPDIR/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
//	PATH="$TMPDIR:<oracle venv>/bin:$PATH" go generate ./format/onnx/internal/pb
//
//go:generate python -m grpc_tools.protoc -I. --go_out=. --go_opt=paths=source_relative --go_opt=Monnx.proto=github.com/llama-pajamas/llama-pajamas/format/onnx/internal/pb onnx.proto
