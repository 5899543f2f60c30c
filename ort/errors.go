package ort

import (
	"errors"
	"fmt"
)

// ErrClosed is wrapped by the error of every use of a closed object.
var ErrClosed = errors.New("already closed")

// ErrTerminated is wrapped by the error of a run ended by
// [RunOptions.Terminate] rather than by its context.
var ErrTerminated = errors.New("run terminated")

// ErrorCode is OrtErrorCode: the kind of failure the library reports.
type ErrorCode uint32

// The codes of OrtErrorCode.
const (
	CodeFail ErrorCode = iota + 1
	CodeInvalidArgument
	CodeNoSuchFile
	CodeNoModel
	CodeEngineError
	CodeRuntimeException
	CodeInvalidProtobuf
	CodeModelLoaded
	CodeNotImplemented
	CodeInvalidGraph
	CodeProviderFail
	CodeModelLoadCanceled
	CodeModelRequiresCompilation
	CodeNotFound
)

var codeNames = [...]string{
	0: "ok", CodeFail: "failure", CodeInvalidArgument: "invalid argument", CodeNoSuchFile: "no such file",
	CodeNoModel: "no model", CodeEngineError: "engine error", CodeRuntimeException: "runtime exception",
	CodeInvalidProtobuf: "invalid protobuf", CodeModelLoaded: "model already loaded", CodeNotImplemented: "not implemented",
	CodeInvalidGraph: "invalid graph", CodeProviderFail: "execution provider failure",
	CodeModelLoadCanceled: "model load cancelled", CodeModelRequiresCompilation: "model requires compilation",
	CodeNotFound: "not found",
}

// String is the code in words.
func (c ErrorCode) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("error code %d", uint32(c))
}

// Error is a failure reported by ONNX Runtime, in its own words.
type Error struct {
	Code    ErrorCode
	Message string
}

// Error gives the code and the library's message.
func (e *Error) Error() string { return "ONNX Runtime: " + e.Code.String() + ": " + e.Message }
