package runcode

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed prelude.py
var prelude string

// wallExit is the exit code of prelude.py when a wall could not be put up.
const wallExit = 97

const fileBytes = 1 << 20 // largest file a program may write

func run(ctx context.Context, python, program string, o Options) (Result, error) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return Result{}, fmt.Errorf("%w: the filter of system calls knows amd64 and arm64, not %s", ErrUnsupported, runtime.GOARCH)
	}
	work, remove, err := workFolder()
	if err != nil {
		return Result{}, err
	}
	defer remove()
	source, err := programFile(program)
	if err != nil {
		return Result{}, err
	}
	defer source.Close()
	verdictRead, verdictWrite, err := os.Pipe()
	if err != nil {
		return Result{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer verdictRead.Close()
	defer verdictWrite.Close()

	limited, cancel := context.WithTimeout(ctx, o.Wall)
	defer cancel()
	word := rand.Text()
	cmd := exec.CommandContext(limited, python, "-I", "-S", "-B", "-c", prelude,
		word, work, home(), strconv.Itoa(int(max(o.CPU/time.Second, 1))), strconv.FormatInt(o.Memory, 10), strconv.Itoa(fileBytes))
	out := &capped{limit: o.Output}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{source, verdictWrite}
	cmd.Dir = work
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + work, "TMPDIR=" + work}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Setsid:      true, // a process group, and no terminal
		Pdeathsig:   syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	// The death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("%w: start %s in namespaces of its own: %w; %s", ErrUnsupported, python, err, namespaceAdvice)
	}
	_ = verdictWrite.Close() // the child has its own
	err = cmd.Wait()
	// The child was the only process with the other end, so that this ends.
	said, readErr := io.ReadAll(io.LimitReader(verdictRead, 64))
	if readErr != nil {
		return Result{}, fmt.Errorf("read the verdict of a program: %w", readErr)
	}
	r := Result{Output: out.kept.String(), Truncated: out.more, Wall: time.Since(start)}

	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && limited.Err() == nil {
		return Result{}, fmt.Errorf("run a program with %s: %w", python, err)
	}
	if exit != nil && exit.ExitCode() == wallExit {
		return Result{}, fmt.Errorf("%w: %s; %s", ErrUnsupported, strings.TrimSpace(r.Output), namespaceAdvice)
	}
	switch {
	case err == nil && string(said) == word:
		r.Passed = true
	case limited.Err() != nil:
		r.Reason = fmt.Sprintf("time limit of %s", o.Wall)
	case exit != nil && exit.Sys().(syscall.WaitStatus).Signaled():
		signal := exit.Sys().(syscall.WaitStatus).Signal()
		r.Reason = fmt.Sprintf("stopped by %s", signal)
		// The kernel stops at the limit by its own count, which is a little ahead.
		if signal == syscall.SIGKILL && exit.UserTime()+exit.SystemTime() >= o.CPU*9/10 {
			r.Reason = fmt.Sprintf("limit of %s of processor time", o.CPU)
		}
	case strings.Contains(r.Output, "MemoryError"):
		r.Reason = fmt.Sprintf("memory limit of %d MiB", o.Memory>>20)
	default:
		r.Reason = reason(r.Output)
	}
	if !r.Passed && r.Reason == "" {
		r.Reason = "the program left before its end"
	}
	return r, nil
}

const namespaceAdvice = "the kernel must let this user make namespaces " +
	"(containers: run with them unconfined; Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0), " +
	"Linux 5.12 or later; without, leave out the permission to run code"

// programFile is program as an open file without a name.
func programFile(program string) (*os.File, error) {
	f, err := os.CreateTemp("", "llama-pajamas-program-")
	if err != nil {
		return nil, fmt.Errorf("keep a program for its run: %w", err)
	}
	_ = os.Remove(f.Name())
	if _, err = f.WriteString(program); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("keep a program for its run: %w", err)
	}
	return f, nil
}

// home is the user's home folder, which the program does not see.
func home() string {
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return ""
}

// capped keeps the first bytes written to it and counts on.
type capped struct {
	kept  bytes.Buffer
	limit int
	more  bool
}

func (c *capped) Write(p []byte) (int, error) {
	room := c.limit - c.kept.Len()
	if len(p) > room {
		c.more = true
		c.kept.Write(p[:room])
	} else {
		c.kept.Write(p)
	}
	return len(p), nil
}

// reason is the last line of a traceback, cut short.
func reason(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if len(last) > 200 {
		last = strings.ToValidUTF8(last[:200], "") + "…"
	}
	return last
}

// workFolder makes the empty folder that a program's own is mounted over.
func workFolder() (string, func(), error) {
	dir, err := os.MkdirTemp("", "llama-pajamas-run-")
	if err != nil {
		return "", nil, fmt.Errorf("make a working folder: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
