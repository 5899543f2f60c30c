package ort

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// LogLevel is a severity; messages below it are dropped.
type LogLevel int

// The severities. The zero value means what its place says.
const (
	LogDefault LogLevel = iota
	LogVerbose
	LogInfo
	LogWarning
	LogError
	LogFatal
)

// severity is OrtLoggingLevel of l, or of d where l is LogDefault.
func (l LogLevel) severity(d LogLevel) uintptr {
	if l == LogDefault {
		l = d
	}
	return uintptr(l - LogVerbose)
}

// LogMessage is one line of the library's log.
type LogMessage struct {
	Level    LogLevel
	Category string
	ID       string // of the environment or session
	Location string // file, line and function in the library
	Text     string
}

// EnvOptions configures an environment.
type EnvOptions struct {
	// Name stands in the log's lines. Default "ort".
	Name string
	// LogLevel is the lowest severity logged. Default: LogFatal without a
	// Logger (the library then writes to standard error, and errors come back
	// as Go errors anyway), LogWarning with one.
	LogLevel LogLevel
	// Logger, where not nil, gets every message. It is called on the
	// library's threads, several at once, and must not call this package.
	Logger func(LogMessage)
}

// Env is the library's environment: logging and what sessions share. ONNX
// Runtime keeps one per process: while one Env is open, a second is the same
// one, and its options are ignored.
type Env struct {
	lib *Library
	h   handle
}

// NewEnv opens the environment. Closing it while sessions are open is allowed:
// it ends with the last of them.
func (l *Library) NewEnv(o EnvOptions) (*Env, error) {
	if o.Name == "" {
		o.Name = "ort"
	}
	name, err := cString(o.Name)
	if err != nil {
		return nil, fmt.Errorf("create the ONNX Runtime environment: %w", err)
	}
	var env uintptr
	if o.Logger == nil {
		err = l.check(l.call(fnCreateEnv, o.LogLevel.severity(LogFatal), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&env))))
	} else {
		err = l.check(l.call(fnCreateEnvWithCustomLogger, purego.NewCallback(logCallback(o.Logger)), 0,
			o.LogLevel.severity(LogWarning), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&env))))
	}
	if err != nil {
		return nil, fmt.Errorf("create the ONNX Runtime environment: %w", err)
	}
	e := &Env{lib: l}
	e.h.init(env, func(p uintptr) { l.call(fnReleaseEnv, p) })
	// Builds for Windows report usage by default.
	if err := l.check(l.call(fnDisableTelemetryEvents, env)); err != nil {
		e.Close()
		return nil, fmt.Errorf("switch telemetry off: %w", err)
	}
	return e, nil
}

// logCallback is OrtLoggingFunction around logger. The memory of a callback
// is never given back, so there is one per environment and none per session.
func logCallback(logger func(LogMessage)) func(param, severity, category, id, location, text uintptr) uintptr {
	return func(_, severity, category, id, location, text uintptr) uintptr {
		logger(LogMessage{
			Level:    LogLevel(int32(uint32(severity))) + LogVerbose,
			Category: goString(category),
			ID:       goString(id),
			Location: goString(location),
			Text:     goString(text),
		})
		return 0
	}
}

// Library is the library the environment belongs to.
func (e *Env) Library() *Library { return e.lib }

// Close ends the environment once its last session is closed.
func (e *Env) Close() { e.h.close() }
