// Package mlog stands in for the logging module of the same name, which is not on the public module proxy: what the
// webhook calls of it, in JSON on stderr, over log/slog.
package mlog

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
)

// LogLevel is what --log-level takes; each shows more than the one before.
type LogLevel string

const (
	LevelWarning LogLevel = ""
	LevelInfo    LogLevel = "info"
	LevelDebug   LogLevel = "debug"
	LevelTrace   LogLevel = "trace"
	LevelAll     LogLevel = "all"
)

// LogFormat is how a line is written: there is one.
type LogFormat string

const FormatJSON LogFormat = "json"

// LogSpec is what a program wants to see of its log, and how.
type LogSpec struct {
	Level  LogLevel
	Format LogFormat
}

var (
	levels = map[LogLevel]slog.Level{
		LevelWarning: slog.LevelWarn,
		LevelInfo:    slog.LevelInfo,
		LevelDebug:   slog.LevelDebug,
		LevelTrace:   2 * slog.LevelDebug,
		LevelAll:     -128,
	}
	// The loggers that exist when it changes follow it.
	shown   slog.LevelVar
	handler = slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: &shown})
)

// Logger writes lines with a name and values of its own.
type Logger struct{ slog *slog.Logger }

// New returns a logger without a name.
func New() Logger { return Logger{slog.New(handler)} }

// WithName returns a logger whose lines say who wrote them.
func (l Logger) WithName(name string) Logger { return l.WithValues("logger", name) }

// WithValues returns a logger whose lines have these keys and values, too.
func (l Logger) WithValues(keysAndValues ...any) Logger {
	return Logger{l.slog.With(keysAndValues...)}
}

// Info logs what happened.
func (l Logger) Info(message string, keysAndValues ...any) { l.slog.Info(message, keysAndValues...) }

// Error logs what failed, and why.
func (l Logger) Error(message string, err error, keysAndValues ...any) {
	l.slog.With("error", err).Error(message, keysAndValues...)
}

// Fatal logs why the program cannot go on, and ends it.
func Fatal(err error) {
	New().Error("fatal", err)
	os.Exit(1)
}

// Setup returns what is to be called at the end: nothing, as no line is kept back.
func Setup() func() { return func() {} }

// Enabled says whether lines of this level are shown.
func Enabled(level LogLevel) bool {
	return handler.Enabled(context.Background(), levels[level])
}

// Logr returns the same log for libraries that speak logr.
func Logr() logr.Logger { return logr.FromSlogHandler(handler) }

// ValidateAndSetLogLevelAndFormatGlobally makes all loggers show what spec says; it fails if spec is of a level or
// format that does not exist.
func ValidateAndSetLogLevelAndFormatGlobally(_ context.Context, spec LogSpec) error {
	level, known := levels[spec.Level]
	if !known || spec.Format != FormatJSON {
		return fmt.Errorf("no such log: level %q, format %q", spec.Level, spec.Format)
	}
	shown.Set(level)
	return nil
}
