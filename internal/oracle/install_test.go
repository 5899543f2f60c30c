package oracle

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestRequirementsAreLocked wants every line of requirements.in, and no other,
// in requirements.txt with a hash.
func TestRequirementsAreLocked(t *testing.T) {
	in, err := os.ReadFile("requirements.in")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(in)) {
		if pin, _, _ := strings.Cut(strings.TrimSpace(line), " "); pin != "" && !strings.HasPrefix(pin, "#") {
			want = append(want, pin)
		}
	}
	var got []string
	hashes := 1
	for line := range strings.Lines(string(requirements)) {
		if strings.Contains(line, "--hash=sha256:") {
			hashes++
			continue
		}
		if hashes == 0 {
			t.Errorf("%s has no hash", got[len(got)-1])
		}
		pin, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		got, hashes = append(got, pin), 0
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("requirements.txt pins\n%q\nrequirements.in wants\n%q", got, want)
	}
}
