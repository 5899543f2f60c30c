package hub

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// AccessError says that the hub does not give a model to this user: 401 or
// 403. The hub answers 401 for models that do not exist too, unless a token
// shows that the asker may know.
type AccessError struct {
	ID string
	// Endpoint is the hub that refused.
	Endpoint string
	Status   int
	// Gated: the model's terms must be accepted first.
	Gated bool
	// Token: one was sent.
	Token bool
	// Message is the hub's own, often empty.
	Message string
}

// Error tells what to do about it.
func (e *AccessError) Error() string {
	var b strings.Builder
	page := e.Endpoint + "/" + e.ID
	switch {
	case e.Gated && e.Token:
		fmt.Fprintf(&b, "%s is gated and the token's user has no access yet: accept its terms at %s", e.ID, page)
	case e.Gated:
		fmt.Fprintf(&b, "%s is gated: accept its terms at %s, then set HF_TOKEN to a token of %s/settings/tokens", e.ID, page, e.Endpoint)
	case e.Token && e.Status == http.StatusUnauthorized:
		fmt.Fprintf(&b, "%s does not exist, or the token in HF_TOKEN or its file is not valid", e.ID)
	case e.Token:
		fmt.Fprintf(&b, "the token in HF_TOKEN or its file may not read %s", e.ID)
	default:
		fmt.Fprintf(&b, "%s does not exist, or is private or gated: check the name, and set HF_TOKEN to a token that may read it", e.ID)
	}
	fmt.Fprintf(&b, " (HTTP %d", e.Status)
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	b.WriteByte(')')
	return b.String()
}

// NotFoundError says which part of a reference the hub does not know.
type NotFoundError struct {
	ID string
	// Revision is set where the model is there and the revision is not.
	Revision string
	// File is set where the revision is there and the file is not.
	File string
}

// Error names the part.
func (e *NotFoundError) Error() string {
	switch {
	case e.File != "":
		return fmt.Sprintf("%s has no file %s at revision %s", e.ID, e.File, e.Revision)
	case e.Revision != "":
		return fmt.Sprintf("%s has no revision %s", e.ID, e.Revision)
	}
	return fmt.Sprintf("the hub has no model %s", e.ID)
}

// HashError says that a file came twice with a content that is not the hub's.
type HashError struct {
	ID, File string
	// Kind is "sha256" or "git blob sha1", or "size".
	Kind      string
	Want, Got string
}

// Error tells both values.
func (e *HashError) Error() string {
	return fmt.Sprintf("%s of %s came wrong twice and was removed: its %s is %s, the hub says %s; a proxy or mirror may alter files",
		e.File, e.ID, e.Kind, e.Got, e.Want)
}

// MissingError says what the cache lacks for work without the network.
type MissingError struct {
	Ref Ref
	// Files are missing or cut; empty where nothing of the revision is there.
	Files []string
	// Cache is the folder that was looked through.
	Cache string
	// Err is why the hub was not asked; nil means that it was to be offline.
	Err error
}

// Error names the first files.
func (e *MissingError) Error() string {
	why := "the hub is not asked (HF_HUB_OFFLINE)"
	if e.Err != nil {
		why = e.Err.Error()
	}
	what := fmt.Sprintf("%s at revision %s", e.Ref.ID, e.Ref.revision())
	if len(e.Files) > 0 {
		names := strings.Join(e.Files[:min(4, len(e.Files))], ", ")
		if n := len(e.Files) - 4; n > 0 {
			names += fmt.Sprintf(" and %d more", n)
		}
		what = names + " of " + what
	}
	return fmt.Sprintf("%s, and the cache %s lacks %s", why, e.Cache, what)
}

// Unwrap is why the hub was not asked.
func (e *MissingError) Unwrap() error { return e.Err }

// SpaceError says that the files do not fit on the disk.
type SpaceError struct {
	Dir        string
	Need, Free int64
}

// Error tells both sizes.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("the download takes %.1f GB and the disk of %s has %.1f GB free; HF_HOME moves the cache",
		float64(e.Need)/1e9, e.Dir, float64(e.Free)/1e9)
}

// StatusError is any other answer that is not a success.
type StatusError struct {
	URL     string // without its query, which may hold a signature
	Status  int
	Message string
	// RetryAfter is how long the hub asks to wait; 0 where it does not say.
	RetryAfter time.Duration
}

// Error tells the status and, for a rate limit, when it ends.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Status == http.StatusTooManyRequests {
		s += "; too many requests"
		if e.RetryAfter > 0 {
			s += fmt.Sprintf(", try again in %s", e.RetryAfter.Round(time.Second))
		}
		s += "; a token in HF_TOKEN raises the limit"
	}
	return s
}

// transient reports whether the same request may succeed later.
func (e *StatusError) transient() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
