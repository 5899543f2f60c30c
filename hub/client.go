package hub

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxWait is the longest wait that is made of the hub's own accord: its
	// rate limits are windows of five minutes.
	maxWait = 5 * time.Minute
	// maxPage bounds an answer of the API.
	maxPage = 64 << 20
	// maxRedirects is huggingface_hub's.
	maxRedirects = 10
)

// client makes requests to one hub.
type client struct {
	o    Options
	http *http.Client
}

func newClient(o Options) *client {
	c := &client{o: o}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                 o.Proxy,
			DialContext:           (&net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   o.Timeout,
			ResponseHeaderTimeout: o.Timeout,
			MaxIdleConnsPerHost:   o.Workers,
			ForceAttemptHTTP2:     true,
			// A compressed answer has no ranges and no length.
			DisableCompression: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%d redirects", len(via))
			}
			c.authorize(r)
			return nil
		},
	}
	return c
}

func (c *client) close() { c.http.CloseIdleConnections() }

// authorize puts the token into a request to the hub, and takes it out of one
// to any other host, another port or scheme included: net/http itself would
// keep it for another port and for sub-domains. A mirror may send on to the hub
// proper, which is its source.
func (c *client) authorize(r *http.Request) {
	r.Header.Del("Authorization")
	if o := origin(r.URL); c.o.Token != "" && (o == originOf(c.o.Endpoint) || o == originOf(DefaultEndpoint)) {
		r.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
}

func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return origin(u)
}

// origin is scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// get makes one request. An answer that is no success is an error; the caller
// closes the body of one that is.
func (c *client) get(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	c.authorize(req)
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its address may hold a signature
		}
		return nil, fmt.Errorf("ask %s: %w", bare(req.URL), err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.statusError(resp)
}

// bare is an address without user, query and fragment.
func bare(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// hubError is an answer with the code that the hub sends beside the status:
// RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo (huggingface_hub,
// utils/_http.py, hf_raise_for_status).
type hubError struct {
	StatusError
	code string
}

func (e *hubError) Unwrap() error { return &e.StatusError }

func (c *client) statusError(resp *http.Response) error {
	e := &hubError{StatusError: StatusError{
		URL: bare(resp.Request.URL), Status: resp.StatusCode,
		Message:    oneLine(resp.Header.Get("X-Error-Message")),
		RetryAfter: retryAfter(resp.Header, time.Now()),
	}, code: resp.Header.Get("X-Error-Code")}
	if e.Message == "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		var body struct {
			Error string `json:"error"`
		}
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what cannot be read is no message
		if json.Unmarshal(b, &body) == nil {
			e.Message = oneLine(body.Error)
		}
	}
	return e
}

// oneLine makes a server's text fit into an error.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

var rateLimit = regexp.MustCompile(`;\s*r=0\s*;\s*t=(\d{1,6})`)

// retryAfter reads how long to wait: Retry-After in seconds or as a date (RFC
// 9110, 10.2.3), or the rest t of an exhausted window in RateLimit
// (draft-ietf-httpapi-ratelimit-headers-09), which the hub sends.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if m := rateLimit.FindStringSubmatch(h.Get("RateLimit")); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits, by the pattern
		return time.Duration(n) * time.Second
	}
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return min(max(time.Duration(n), 0), 1e6) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// backoff counts the tries of one request: those in vain, and all.
type backoff struct {
	c     *client
	what  string
	tries int
	made  int
}

// again waits before another try after err, or returns the error to end with.
func (b *backoff) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var (
		s    *StatusError
		p    permanent
		dial *net.OpError
	)
	switch {
	case errors.As(err, &p):
		return p.error
	case errors.As(err, &s) && !s.transient(), errors.As(err, new(*tls.CertificateVerificationError)):
		return err
	case errors.As(err, &dial) && dial.Op == "dial":
		b.tries++ // nobody there: the cache may serve, so do not wait for long
	}
	b.tries++
	b.made++
	if b.tries >= b.c.o.Tries {
		return fmt.Errorf("%w (tried %d times)", err, b.made)
	}
	d := min(time.Second<<(b.tries-1), 30*time.Second)
	d += time.Duration(rand.Int64N(int64(d)/4 + 1)) // so that many clients do not come back at once
	if s != nil && s.RetryAfter > 0 {
		if s.RetryAfter > maxWait {
			return err
		}
		d = s.RetryAfter
	}
	b.c.o.Logger.Warn("try again", "what", b.what, "wait", d.Round(time.Millisecond), "error", err)
	return b.c.o.wait(ctx, d)
}

// json reads an answer of the API into v, with retries, and returns its header.
func (c *client) json(ctx context.Context, address string, v any) (http.Header, error) {
	b := backoff{c: c, what: address}
	for {
		h, err := c.jsonOnce(ctx, address, v)
		if err == nil {
			return h, nil
		}
		if err := b.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

func (c *client) jsonOnce(ctx context.Context, address string, v any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*c.o.Timeout)
	defer cancel()
	resp, err := c.get(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", bare(resp.Request.URL), err)
	}
	if len(b) > maxPage {
		return nil, fmt.Errorf("the answer of %s is longer than any of the hub's", bare(resp.Request.URL))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, &StatusError{URL: bare(resp.Request.URL), Status: resp.StatusCode, Message: "not what the hub's API answers: " + oneLine(err.Error())}
	}
	return resp.Header, nil
}
