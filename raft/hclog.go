package raft

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// libraryLogger hands the Raft library's messages to slog, one level lower: what is news to a Raft developer is detail to
// whoever runs a mail server. Warnings and errors keep their level.
type libraryLogger struct {
	to      *slog.Logger
	name    string
	implied []any
}

var _ hclog.Logger = (*libraryLogger)(nil)

func newLibraryLogger(to *slog.Logger) *libraryLogger { return &libraryLogger{to: to} }

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	case hclog.Info:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

// Log implements hclog.Logger.
func (l *libraryLogger) Log(level hclog.Level, msg string, args ...any) {
	at := slogLevel(level)
	if !l.to.Enabled(context.Background(), at) {
		return
	}
	for i, arg := range args {
		// hclog.Fmt arguments are a format and its values.
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	l.to.Log(context.Background(), at, "raft: "+msg, args...)
}

// Trace implements hclog.Logger.
func (l *libraryLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *libraryLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *libraryLogger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *libraryLogger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *libraryLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *libraryLogger) enabled(level hclog.Level) bool {
	return l.to.Enabled(context.Background(), slogLevel(level))
}

// IsTrace implements hclog.Logger.
func (l *libraryLogger) IsTrace() bool { return l.enabled(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (l *libraryLogger) IsDebug() bool { return l.enabled(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (l *libraryLogger) IsInfo() bool { return l.enabled(hclog.Info) }

// IsWarn implements hclog.Logger.
func (l *libraryLogger) IsWarn() bool { return l.enabled(hclog.Warn) }

// IsError implements hclog.Logger.
func (l *libraryLogger) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs implements hclog.Logger.
func (l *libraryLogger) ImpliedArgs() []any { return l.implied }

// With implements hclog.Logger.
func (l *libraryLogger) With(args ...any) hclog.Logger {
	implied := append(append([]any{}, l.implied...), args...)
	return &libraryLogger{to: l.to.With(args...), name: l.name, implied: implied}
}

// Name implements hclog.Logger.
func (l *libraryLogger) Name() string { return l.name }

// Named implements hclog.Logger.
func (l *libraryLogger) Named(name string) hclog.Logger {
	return &libraryLogger{to: l.to, name: name, implied: l.implied}
}

// ResetNamed implements hclog.Logger.
func (l *libraryLogger) ResetNamed(name string) hclog.Logger { return l.Named(name) }

// SetLevel implements hclog.Logger: the level is slog's affair.
func (l *libraryLogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *libraryLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Error
}

// StandardLogger implements hclog.Logger.
func (l *libraryLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.to.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (l *libraryLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}
