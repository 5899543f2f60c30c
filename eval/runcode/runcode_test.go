package runcode_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/eval/runcode"
)

// python finds Python and says whether programs can be run here. Where they
// cannot, the test that nothing is run is all there is; CI wants the rest.
func python(t *testing.T) (string, bool) {
	t.Helper()
	path, err := runcode.Find(t.Context(), "")
	if err == nil {
		err = runcode.Check(t.Context(), runcode.Options{Allow: true, Python: path})
	}
	if err == nil {
		return path, true
	}
	if runtime.GOOS == "linux" && os.Getenv("LLAMA_PAJAMAS_ORACLE") == "require" {
		t.Fatalf("programs cannot be run: %v", err)
	}
	marker := filepath.Join(t.TempDir(), "marker")
	_, err = runcode.Run(t.Context(), fmt.Sprintf("open(%q, 'w')\n", marker), runcode.Options{Allow: true, Python: path})
	if !errors.Is(err, runcode.ErrUnsupported) && !errors.Is(err, runcode.ErrNoPython) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Fatal("the program was run all the same")
	}
	t.Logf("programs are refused here, as they should be: %v", err)
	return "", false
}

func TestWithoutPermission(t *testing.T) {
	if _, err := runcode.Run(t.Context(), "pass", runcode.Options{}); !errors.Is(err, runcode.ErrNotAllowed) {
		t.Errorf("Run: %v", err)
	}
	if err := runcode.Check(t.Context(), runcode.Options{}); !errors.Is(err, runcode.ErrNotAllowed) {
		t.Errorf("Check: %v", err)
	}
}

func TestNoPython(t *testing.T) {
	_, err := runcode.Run(t.Context(), "pass", runcode.Options{Allow: true, Python: "no-such-python"})
	if !errors.Is(err, runcode.ErrNoPython) || !strings.Contains(err.Error(), "no-such-python") {
		t.Errorf("got %v", err)
	}
}

// TestHumanEval runs the canonical solutions of the set, which pass, and
// answers that do not.
func TestHumanEval(t *testing.T) {
	path, ok := python(t)
	if !ok {
		return
	}
	set, err := questions.Set(0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, q := range set {
		if q.Kind != questions.KindCode {
			continue
		}
		n++
		solution := q.Requests()[0].Continuation // with the prompt's last line feed
		for _, c := range []struct {
			completion string
			pass       bool
		}{
			{solution, true},
			{solution + "\n\ndef unrelated():\n    raise SystemExit", true}, // cut at "\ndef"
			{"\n    return None\n", false},
		}[:map[bool]int{true: 3, false: 1}[n <= 2]] {
			program, err := q.Program(c.completion)
			if err != nil {
				t.Fatal(err)
			}
			r, err := runcode.Run(t.Context(), program, runcode.Options{Allow: true, Python: path})
			if err != nil {
				t.Fatal(err)
			}
			if r.Passed != c.pass || r.Passed == (r.Reason != "") {
				t.Errorf("%s with %q: %+v", q.ID, c.completion, r)
			}
		}
	}
	if n != 20 {
		t.Errorf("%d questions of code, want 20", n)
	}
}

func TestVerdicts(t *testing.T) {
	path, ok := python(t)
	if !ok {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan bool, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			c.Close()
			accepted <- true
		}
	}()
	outside := filepath.Join(t.TempDir(), "outside")
	secret := filepath.Join(t.TempDir(), "secret") // under /tmp, which is hidden
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LLAMA_PAJAMAS_TEST_SECRET", "secret")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	beside := "Read-only file system"
	home, _ := os.UserHomeDir() // "" hides nothing
	for _, hidden := range []string{"/tmp", "/run", home} {
		if hidden != "" && strings.HasPrefix(here, hidden+"/") { // so is a checkout in it
			beside = "FileNotFoundError"
		}
	}

	for _, c := range []struct {
		name, program string
		reason        string // "" for a pass; else part of the reason
	}{
		{"end", "x = 1\n", ""},
		{"assertion", "assert 1 == 2, 'one is not two'\n", "AssertionError: one is not two"},
		{"syntax", "def f(:\n", "SyntaxError"},
		{"exit 0 before the tests", "import sys\nsys.exit(0)\n", "SystemExit"},
		{"_exit 0 before the tests", "import os\nos._exit(0)\n", "left before its end"},
		{"endless loop", "while True: pass\n", "processor time"},
		{"sleep", "import time\ntime.sleep(60)\n", "time limit of"},
		{"memory", "x = bytearray(2 << 30)\n", "memory limit"},
		{"memory bit by bit", "x = []\nwhile True: x.append(bytearray(1 << 20))\n", "memory limit"},
		{"fork", "import os\nwhile True: os.fork()\n", "PermissionError"},
		{"thread", "import threading\nthreading.Thread(target=print).start()\n", "can't start new thread"},
		{"exec", "import os\nos.execv('/bin/sh', ['sh', '-c', 'exit 0'])\n", "PermissionError"},
		{"subprocess", "import subprocess\nsubprocess.run(['/bin/true'])\n", "PermissionError"},
		{"network", fmt.Sprintf("import socket\nsocket.create_connection(%q, 2)\n", listener.Addr()), "Error"},
		{"network, numeric", fmt.Sprintf("import socket\ns = socket.socket()\ns.connect(('127.0.0.1', %d))\n", listener.Addr().(*net.TCPAddr).Port), "PermissionError"},
		{"unix socket", "import socket\nsocket.socket(socket.AF_UNIX)\n", "PermissionError"},
		{"write in the working folder", "open('a', 'w').write('x')\nassert open('a').read() == 'x'\n", ""},
		{"write too much", "f = open('a', 'wb')\nf.write(bytes(2 << 20))\nf.flush()\n", "File too large"},
		{"fill the working folder", "for i in range(64): open(str(i), 'wb').write(bytes(1 << 20))\n", "No space left"},
		{"write outside", fmt.Sprintf("open(%q, 'w')\n", outside), "Error"},
		{"write beside the test", fmt.Sprintf("open(%q, 'w')\n", filepath.Join(here, "outside")), beside},
		{"write to the root", "open('/outside', 'w')\n", "Read-only file system"},
		{"mount again", "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.mount(b'none', b'/', None, 0x20, None) == 0\n", "AssertionError"},
		{"read what is hidden", fmt.Sprintf("open(%q)\n", secret), "FileNotFoundError"},
		{"environment", "import os\nassert 'LLAMA_PAJAMAS_TEST_SECRET' not in os.environ, os.environ\n", ""},
		{"other processes", "import os\nassert not os.path.exists('/proc/1')\n", ""},
		{"devices", "import os\nassert sorted(os.listdir('/dev')) == ['full', 'null', 'random', 'urandom', 'zero'], os.listdir('/dev')\nopen('/dev/null', 'w').write('x')\nassert len(open('/dev/urandom', 'rb').read(4)) == 4\n", ""},
		{"device of its own", "import os\nos.mknod('tty', 0o20666, os.makedev(5, 0))\n", "Error"},
		{"terminal", "open('/dev/tty', 'w')\n", "Error"},
		{"shared memory", "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) == -1\n", ""},
		{"standard input", "import sys\nassert sys.stdin.read() == ''\n", ""},
		{"much output", "while True: print('x' * 1000)\n", "limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := runcode.Options{Allow: true, Python: path, CPU: time.Second, Wall: 90 * time.Second, Memory: 256 << 20, Output: 4096}
			if c.name == "sleep" {
				o.Wall = 2 * time.Second
			}
			r, err := runcode.Run(t.Context(), c.program, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Passed != (c.reason == "") || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("got %+v, want reason %q", r, c.reason)
			}
			if len(r.Output) > o.Output {
				t.Errorf("%d bytes of output kept, limit %d", len(r.Output), o.Output)
			}
			if c.name == "much output" && !r.Truncated {
				t.Error("output was not said to be cut")
			}
		})
	}
	select {
	case <-accepted:
		t.Error("a program reached the network")
	default:
	}
	for _, p := range []string{outside, filepath.Join(here, "outside"), "/outside"} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("a program wrote %s", p)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "llama-pajamas-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if strings.Contains(l, "-run-") || strings.Contains(l, "-program-") {
			t.Errorf("%s was left behind", l)
		}
	}
}

func TestCancel(t *testing.T) {
	path, ok := python(t)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := runcode.Run(ctx, "while True: pass\n", runcode.Options{Allow: true, Python: path})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("stopped after %s", d)
	}
}
