package quota

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// playUser does what a process of an instance might, and prints how it ended: "ok", or the name of the error.
func playUser(_ string, args []string) int {
	act := map[string]func(path, value string) error{
		"fill": fill, "crowd": crowd, "move": os.Rename, "project": setProject, "inherit": setInherit,
	}[args[0]]
	switch {
	case args[0] == "shuffle":
		return shuffle(args[1])
	case act == nil:
		fmt.Println("unknown:", args)
		return 2
	}
	err := act(args[1], args[2])
	for {
		wrapped, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = wrapped.Unwrap()
	}
	switch errno := err.(type) {
	case nil:
		fmt.Println("ok")
	case unix.Errno:
		fmt.Println(unix.ErrnoName(errno))
	default:
		fmt.Println(err)
	}
	return 0
}

// fill writes so many mebibytes.
func fill(path, size string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, _ := strconv.Atoi(size)
	for range n {
		if _, err := f.Write(make([]byte, mebi)); err != nil {
			return err
		}
	}
	return f.Sync() // ext4 and XFS put off what they can
}

// crowd makes so many empty files.
func crowd(dir, count string) error {
	n, _ := strconv.Atoi(count)
	for i := range n {
		f, err := os.Create(filepath.Join(dir, "empty-"+strconv.Itoa(i)))
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

func setProject(path, value string) error {
	n, _ := strconv.Atoi(value)
	return change(path, func(a *attributes) { a.Project = uint32(n) })
}

func setInherit(path, _ string) error {
	return change(path, func(a *attributes) { a.Flags &^= projectInherit })
}

func change(path string, do func(*attributes)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var a attributes
	if err := getAttributes(int(f.Fd()), &a); err != nil {
		return err
	}
	do(&a)
	return setAttributes(int(f.Fd()), &a)
}

// shuffle makes files and moves them and their directories about, until its input ends.
func shuffle(dir string) int {
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(ended) }()
	at := func(n int) string { return filepath.Join(dir, "d"+strconv.Itoa(n%7)) }
	for n := 0; ; n++ {
		if n == 30 {
			fmt.Println("ready")
		}
		select {
		case <-ended:
			return 0
		default:
		}
		// Any of these may fail: it is there already, or not any more, or the kernel says no.
		_ = os.MkdirAll(filepath.Join(at(n), "inner"), 0o700)
		_ = os.WriteFile(filepath.Join(at(n), "inner", "f"+strconv.Itoa(n%10)), []byte("text"), 0o600)
		_ = os.Rename(filepath.Join(at(n), "inner", "f"+strconv.Itoa(n%10)), filepath.Join(at(n+3), "g"+strconv.Itoa(n%10)))
		_ = os.Rename(filepath.Join(at(n+1), "inner"), filepath.Join(at(n+2), "moved"))
		_ = os.Rename(filepath.Join(at(n+4), "moved"), filepath.Join(at(n+5), "inner", "nested"))
		if n%100 == 0 {
			_ = os.RemoveAll(at(n))
		}
	}
}
