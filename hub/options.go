package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

// DefaultEndpoint is the hub itself.
const DefaultEndpoint = "https://huggingface.co"

// Options adjusts [Download]. Only CacheDir has no default; [FromEnv] fills
// what huggingface_hub takes from the environment.
type Options struct {
	// CacheDir is the folder of models--OWNER--NAME folders.
	CacheDir string
	// Endpoint is the hub's address. Default: [DefaultEndpoint].
	Endpoint string
	// Token is sent to the endpoint and to no other host. Default: none.
	Token string
	// Offline uses the cache alone.
	Offline bool
	// NoSymlinks keeps files in the snapshot folder itself, as is done anyway
	// where the system refuses symbolic links.
	NoSymlinks bool
	// Filter chooses the files. Default: [Needed] with the reference's Choice.
	Filter Filter
	// Workers is how many files come at once. Default: 4.
	Workers int
	// Tries is how often a request is made that yields nothing new: refused
	// connections, broken ones, 408, 429 and 5xx. Default: 6.
	Tries int
	// Timeout ends a connection on which nothing comes. Default: 30 s.
	Timeout time.Duration
	// Proxy is as in [http.Transport]. Default: none.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent names the program. Default: "llama-pajamas".
	UserAgent string
	// FreeSpace tells the bytes free on a folder's disk. Default: the system's
	// answer.
	FreeSpace func(dir string) (int64, error)
	// Progress is told how the download gets on, from several goroutines, one
	// call at a time. It must not block. May be nil.
	Progress func(Progress)
	// Logger gets retries and waits. Default: silent.
	Logger *slog.Logger

	// wait sleeps, unless ctx ends before; tests count instead.
	wait func(ctx context.Context, d time.Duration) error
}

// Progress is a moment of a [Download].
type Progress struct {
	// Done and Total are bytes of the files that were not in the cache. What a
	// try before had fetched of them counts as done; Done falls where a file
	// turns out wrong.
	Done, Total int64
	// Files are those on their way, in the order they were begun.
	Files []string
}

// fill checks the options and sets defaults.
func (o *Options) fill(r Ref) error {
	if o.CacheDir == "" {
		return errors.New("no cache folder given")
	}
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("hub endpoint %q: want an address that begins with https://", o.Endpoint)
	}
	if strings.ContainsAny(o.Token, " \t\r\n") {
		return errors.New("the hub token has blanks or line ends in it")
	}
	if o.Filter == nil {
		o.Filter = Needed(r.Choice)
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Tries <= 0 {
		o.Tries = 6
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.UserAgent == "" {
		o.UserAgent = "llama-pajamas"
	}
	if o.FreeSpace == nil {
		o.FreeSpace = func(dir string) (int64, error) {
			u, err := disk.Usage(dir)
			if err != nil {
				return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
			}
			return int64(u.Free), nil
		}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.wait == nil {
		o.wait = sleep
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
