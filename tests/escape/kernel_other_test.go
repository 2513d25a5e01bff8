//go:build !amd64

package escape

import "golang.org/x/sys/unix"

// These processors have no such calls; the rows need another one.
func portAccess() error       { return unix.ENOSYS }
func somePortAccess() error   { return unix.ENOSYS }
func localDescriptors() error { return unix.ENOSYS }
