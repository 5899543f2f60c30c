package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/llama-pajamas/llama-pajamas/convert"
)

// Version is what --version prints, with the commit where that is known.
const Version = convert.Version

// commit is set by the linker in releases, which are built without Go's own
// marks of a checkout.
var commit string

// build is ", commit …" of a release or of a program that was built in a
// checkout, and says of the latter when files were changed; "" of other builds.
func build() string {
	revision, changed := commit, ""
	if info, ok := debug.ReadBuildInfo(); ok && revision == "" {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				changed = " with changes"
			}
		}
	}
	if revision == "" {
		return ""
	}
	return ", commit " + revision[:min(len(revision), 12)] + changed
}

// The exit codes of every program, told in --help.
const (
	ExitOK          = 0
	ExitFailure     = 1   // the work could not be done; standard error says why
	ExitUsage       = 2   // the command line is wrong
	ExitInterrupted = 130 // ended by Ctrl-C or SIGTERM
)

const exitHelp = `Exit codes: 0 done, 1 failed (standard error says why), 2 wrong usage, 130 interrupted.`

// Program names a command tree.
type Program int

// The programs.
const (
	Quant Program = iota
	RunONNX
	RunAny
)

// Stdio is where a command reads and writes. Tests give buffers.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Env looks up an environment variable; nil means none is set.
	Env func(string) string
	// Interrupts lets a command take Ctrl-C; nil means none comes.
	Interrupts *Interrupts
	// InTerminal, OutTerminal and ErrTerminal say which ends are a terminal.
	InTerminal, OutTerminal, ErrTerminal bool
	// Program is the running program's file, for work that is done in a child
	// process; "" does it in this one.
	Program string
}

// Getenv is Env without the nil.
func (s Stdio) Getenv(key string) string {
	if s.Env == nil {
		return ""
	}
	return s.Env(key)
}

// Color reports whether w's end of the program may be coloured: a terminal,
// and neither NO_COLOR nor TERM=dumb is set (no-color.org).
func (s Stdio) Color(terminal bool) bool {
	return terminal && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}

// CacheDir is where downloads are kept: LLAMA_PAJAMAS_CACHE, or the user's
// cache folder.
func (s Stdio) CacheDir() (string, error) {
	if d := s.Getenv("LLAMA_PAJAMAS_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set LLAMA_PAJAMAS_CACHE to one", err)
	}
	return filepath.Join(d, "llama-pajamas"), nil
}

// Main runs a program on the process's arguments and returns its exit code.
// The first interrupt cancels the work, the second ends the process.
func Main(p Program) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupts := &Interrupts{}
	defer interrupts.watch(cancel)()
	return Run(ctx, p, os.Args[1:], Stdio{
		Interrupts: interrupts,
		In:         os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv, Program: programPath(),
		InTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	})
}

// Tree is a program's commands and flags, for manual pages and for checks of
// the documentation.
func Tree(p Program) *cobra.Command {
	root := tree(p, Stdio{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// tree makes the commands of a program.
func tree(p Program, stdio Stdio) *cobra.Command {
	c := &common{Stdio: stdio, program: p}
	switch p {
	case Quant:
		return quantCommand(c)
	case RunONNX:
		return runONNXCommand(c)
	default:
		return runCommand(c)
	}
}

// Run runs a program on arguments and returns its exit code.
func Run(ctx context.Context, p Program, args []string, stdio Stdio) int {
	root := tree(p, stdio)
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return ExitOK
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())):
		fmt.Fprintln(stdio.Err, "interrupted")
		return ExitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(stdio.Err, "%s: %v\nRun '%s --help' for usage.\n", root.Name(), err, usage.command)
		return ExitUsage
	}
	fmt.Fprintf(stdio.Err, "%s: %v\n", root.Name(), err)
	return ExitFailure
}

// common holds the flags every command has.
type common struct {
	Stdio
	Quiet    bool
	LogLevel string
	Threads  int
	Context  int
	Library  string // of ONNX Runtime
	LlamaCpp string // library of llama.cpp

	program Program // the one that runs

	calibrated string // key of the calibration this process has run or noted
}

// usageError marks a mistake of the command line.
type usageError struct {
	command string
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef makes a usageError of a command.
func usagef(cmd *cobra.Command, format string, a ...any) error {
	return usageError{cmd.CommandPath(), fmt.Errorf(format, a...)}
}

// root makes the top command of a program.
func (c *common) root(name, short, long string) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Long: long + "\n\n" + exitHelp,
		Version:      Version,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef(cmd, "unknown command %q", args[0])
			}
			return cmd.Help()
		},
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.check(cmd) },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}} " + runtime.GOOS + "/" + runtime.GOARCH + build() + "\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd.CommandPath(), err} })
	f := root.PersistentFlags()
	f.BoolVarP(&c.Quiet, "quiet", "q", false, "print results and errors only: no progress, no notes")
	f.StringVar(&c.LogLevel, "log-level", "warn", "what is logged to standard error: debug, info, warn, error")
	f.IntVar(&c.Threads, "threads", 0, "number of threads (default: one per core)")
	f.StringVar(&c.Library, "library", "", "ONNX Runtime library, a file or its folder (default: $"+libraryEnv+",\nbeside the program, what setup fetched, the system's)")
	return root
}

// command makes a sub-command whose wrong arguments are usage errors.
func command(use, short, long string, args cobra.PositionalArgs, run func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, a []string) error {
			if err := args(cmd, a); err != nil {
				return usageError{cmd.CommandPath(), err}
			}
			if err := cmd.ValidateFlagGroups(); err != nil {
				_, which, _ := strings.Cut(err.Error(), "; ") // then "[a b] were all set"
				which, _, _ = strings.Cut(strings.TrimPrefix(which, "["), "]")
				return usagef(cmd, "--%s exclude each other", strings.ReplaceAll(which, " ", " and --"))
			}
			return nil
		},
		RunE: run,
	}
}

// check refuses values of the common flags that no command can use.
func (c *common) check(cmd *cobra.Command) error {
	if c.Threads < 0 {
		return usagef(cmd, "--threads %d: use 0 for one per core, or more", c.Threads)
	}
	if c.Context < 0 {
		return usagef(cmd, "--context %d: use 0 for the model's own limit, or more", c.Context)
	}
	_, err := c.logger(cmd)
	return err
}

// logger writes what --log-level asks for to standard error.
func (c *common) logger(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, usagef(cmd, "--log-level %q: choose debug, info, warn or error", c.LogLevel)
	}
	if c.Quiet {
		level = max(level, slog.LevelError)
	}
	return slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: level})), nil
}

// note prints a line for people to standard error, unless --quiet.
func (c *common) note(format string, a ...any) {
	if !c.Quiet {
		fmt.Fprintf(c.Err, format+"\n", a...)
	}
}
