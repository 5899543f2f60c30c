package llamapajamas

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	levelRow = regexp.MustCompile(`(?m)^\| ([0-9, ]+) \| (.*) \|$`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
)

// TestArchitectureTable: the levels that docs/architecture.md tells are those of
// deps_test.go, and no package is left out.
func TestArchitectureTable(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string][]int{}
	for _, row := range levelRow.FindAllStringSubmatch(string(page), -1) {
		var levels []int
		for n := range strings.SplitSeq(row[1], ",") {
			l, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatalf("row %q: %v", row[1], err)
			}
			levels = append(levels, l)
		}
		for _, span := range codeSpan.FindAllStringSubmatch(row[2], -1) {
			if _, known := level[span[1]]; known {
				told[span[1]] = levels
			}
		}
	}
	if len(told) < 20 {
		t.Fatalf("the table of levels in docs/architecture.md was not found: %v", told)
	}
	for pkg, l := range level {
		switch levels, ok := told[pkg]; {
		case ok && !slices.Contains(levels, l):
			t.Errorf("docs/architecture.md has %s in row %v, deps_test.go at level %d", pkg, levels, l)
		case !ok && !strings.Contains("/"+pkg, "/internal/") && !strings.HasPrefix(pkg, "cmd/"):
			t.Errorf("docs/architecture.md leaves out %s, of level %d", pkg, l)
		}
	}
}
