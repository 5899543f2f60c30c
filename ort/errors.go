package ort

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
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

// sourcePlace is a file and line of the library's own source, and
// innerStatus the head of a status that another one quotes: neither tells a
// user anything.
var (
	sourcePlace = regexp.MustCompile(`\S+\.(cc|cpp|cu|h):\d+ `)
	innerStatus = regexp.MustCompile(`(?s)^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : `)
)

// tidy shortens a message of the library to what it says.
func tidy(message string) string {
	message = innerStatus.ReplaceAllString(message, "")
	message = sourcePlace.ReplaceAllString(message, "")
	return strings.Join(strings.Fields(message), " ")
}

// Error gives the code and the library's message.
func (e *Error) Error() string { return "ONNX Runtime: " + e.Code.String() + ": " + e.Message }
