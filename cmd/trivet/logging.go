package main

import (
	"fmt"
	"io"
	"log/slog"
)

// level is the least level that is logged.
type level string

func (v *level) Set(s string) error {
	var parsed slog.Level
	if err := parsed.UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%q is none of debug, info, warn and error", s)
	}
	*v = level(s)
	return nil
}
func (v *level) String() string { return string(*v) }
func (*level) Type() string     { return "LEVEL" }

// format is how log lines look.
type format string

func (v *format) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("%q is neither text nor json", s)
	}
	*v = format(s)
	return nil
}
func (v *format) String() string { return string(*v) }
func (*format) Type() string     { return "FORMAT" }

// newLogger returns the log of a node that writes to w.
func newLogger(w io.Writer, s settings) *slog.Logger {
	var least slog.Level
	_ = least.UnmarshalText([]byte(s.LogLevel)) // Set has checked it
	options := &slog.HandlerOptions{Level: least}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
