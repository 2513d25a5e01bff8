package scenario
import "testing"
const roleVariable = "X"
func play(string) error { return nil }
func ordinaryWork(t *testing.T) {}
func networkPolicy(t *testing.T) {}
func networkInbound(t *testing.T) {}
func networkGuard(t *testing.T) {}
func postgresSocket(t *testing.T) {}
func configLock(t *testing.T) {}
