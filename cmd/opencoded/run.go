package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/opencoded/opencoded/internal/daemon"
)

func (a *app) daemon() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "keep the egress rules of the last apply in the kernel, as a service",
		Long: `Put the egress rules of the last apply back whenever something else changes or
removes them: nft flush ruleset, a restart of nftables.service, firewalld or ufw,
an edit by hand. Where a table is missing, the isolated instances are cut off
first, and what was found is logged. Socket directories that instances are allowed,
and that appear or are replaced, are bound into them. opencoded.service runs it.`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return exit{exitError, errors.New("run must be run as root (systemctl enable --now opencoded)")}
			}
			if err := daemon.Run(c.Context(), a.log()); err != nil {
				return exit{exitError, fmt.Errorf("cannot keep the egress rules: %w", err)}
			}
			return nil
		},
	}
}

// log writes to standard error: lines for people, the journal adds the time, or
// JSON.
func (a *app) log() *zap.Logger {
	c := zapcore.EncoderConfig{MessageKey: "message", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, ConsoleSeparator: " "}
	encoder := zapcore.NewConsoleEncoder(c)
	if a.json {
		c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339TimeEncoder
		encoder = zapcore.NewJSONEncoder(c)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(a.err), zapcore.InfoLevel))
}
