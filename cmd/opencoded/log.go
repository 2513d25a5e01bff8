package main

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// log writes lines for people to standard error, or JSON. Where standard error is the journal, each field of a line is
// one of the journal as well: `journalctl INSTANCE=web`.
func (a *app) log() *zap.Logger {
	c := zapcore.EncoderConfig{MessageKey: "message", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, ConsoleSeparator: " "}
	if a.json {
		c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339TimeEncoder
		return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), zapcore.AddSync(a.err), zapcore.InfoLevel))
	}
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.AddSync(a.err), zapcore.InfoLevel)
	if isJournal, err := journal.StderrIsJournalStream(); err == nil && isJournal && journal.Enabled() {
		c.LevelKey = "" // the priority says it
		core = journalCore{zapcore.InfoLevel, zapcore.NewConsoleEncoder(c), nil, core}
	}
	return zap.New(core)
}

// journalCore writes to the journal's own socket.
type journalCore struct {
	zapcore.LevelEnabler
	text     zapcore.Encoder // of the message, which has the fields as well: it is what most people see
	fields   []zapcore.Field
	fallback zapcore.Core // for what the journal does not take
}

func (c journalCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

func (c journalCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

func (c journalCore) Sync() error { return nil }

// priorities of syslog(3) for the levels.
var priorities = map[zapcore.Level]journal.Priority{
	zapcore.DebugLevel: journal.PriDebug, zapcore.InfoLevel: journal.PriInfo,
	zapcore.WarnLevel: journal.PriWarning, zapcore.ErrorLevel: journal.PriErr,
}

func (c journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	text, err := c.text.Clone().EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer text.Free()
	values := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(values)
	}
	vars := map[string]string{}
	for name, value := range values.Fields {
		if s := fmt.Sprint(value); s != "" {
			vars[strings.ToUpper(name)] = s
		}
	}
	priority, known := priorities[e.Level]
	if !known {
		priority = journal.PriCrit
	}
	if err := journal.Send(strings.TrimRight(text.String(), "\n"), priority, vars); err != nil {
		return c.fallback.Write(e, fields)
	}
	return nil
}
