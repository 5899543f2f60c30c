package hub

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// DefaultRevision is the branch that a reference without a revision means.
const DefaultRevision = "main"

// Ref names a model on the hub.
type Ref struct {
	// ID is "owner/name".
	ID string
	// Revision is a branch, a tag or a commit; "" means [DefaultRevision].
	Revision string
	// Choice picks one GGUF model among several: the file's name, a pattern as
	// of path.Match, or a part of the name such as "Q4_K_M", ignoring case.
	Choice string
}

// String is what [ParseRef] reads.
func (r Ref) String() string {
	s := r.ID
	if r.Revision != "" {
		s += "@" + r.Revision
	}
	if r.Choice != "" {
		s += ":" + r.Choice
	}
	return s
}

// revision is Revision or its default.
func (r Ref) revision() string {
	if r.Revision == "" {
		return DefaultRevision
	}
	return r.Revision
}

// ParseRef reads "owner/name", "owner/name@revision", and either with
// ":choice" behind it.
func ParseRef(s string) (Ref, error) {
	rest, choice, chosen := strings.Cut(s, ":")
	id, revision, pinned := strings.Cut(rest, "@")
	r := Ref{ID: id, Revision: revision, Choice: choice}
	switch {
	case pinned && revision == "":
		return Ref{}, fmt.Errorf("hub id %q: no revision follows the @", s)
	case chosen && choice == "":
		return Ref{}, fmt.Errorf("hub id %q: no file follows the colon", s)
	}
	if err := r.check(); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// idPart is one half of an ID, and commitHash a full commit
// (huggingface_hub, _validators.py and constants.py).
var (
	idPart     = regexp.MustCompile(`^\w([\w.-]{0,94}\w)?$`)
	commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// check refuses what the hub cannot hold and what would leave the cache folder.
func (r Ref) check() error {
	owner, name, ok := strings.Cut(r.ID, "/")
	switch {
	case !ok || !idPart.MatchString(owner) || !idPart.MatchString(name),
		strings.Contains(r.ID, "--"), strings.Contains(r.ID, ".."), strings.HasSuffix(r.ID, ".git"):
		return fmt.Errorf("hub id %q: want owner/name, of letters, digits, '-', '_' and '.'", r.ID)
	case r.Revision != "" && !isRevision(r.Revision):
		return fmt.Errorf("hub id %q: %q cannot be a revision", r.ID, r.Revision)
	case strings.ContainsAny(r.Choice, "/\\"):
		return fmt.Errorf("hub id %q: choose a file by its name, without folders: %q", r.ID, r.Choice)
	}
	return nil
}

// isRevision follows git-check-ref-format as far as it protects the cache:
// the name becomes a path below refs/.
func isRevision(s string) bool {
	if len(s) > 200 || strings.Contains(s, "..") || strings.Contains(s, "//") || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".lock") {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\<>|"`, c) {
			return false
		}
	}
	return filepath.IsLocal(filepath.FromSlash(s))
}
