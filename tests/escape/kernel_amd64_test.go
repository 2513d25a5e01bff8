package escape

import "golang.org/x/sys/unix"

func portAccess() error     { return called(unix.SYS_IOPL, 3, 0, 0) }
func somePortAccess() error { return called(unix.SYS_IOPERM, 0x80, 1, 1) }

// localDescriptors asks for a change with a size that the kernel refuses by another error.
func localDescriptors() error { return called(unix.SYS_MODIFY_LDT, 1, 0, 0) }
