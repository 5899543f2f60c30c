//go:build !windows

package docstest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// action names a step of others by commit: branches and tags move.
var action = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}$`)

// TestForges: the CI files of public forges parse, and what they run exists.
func TestForges(t *testing.T) {
	repo, err := OpenRepository(root, module)
	if err != nil {
		t.Fatal(err)
	}
	expression := regexp.MustCompile(`\$\{\{.*?\}\}`)
	for _, file := range []string{".github/workflows/ci.yml", ".github/workflows/release.yml", ".gitlab-ci.yml"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "not run") {
			t.Errorf("%s does not say that it was not run", file)
		}
		var n yaml.Node
		if err := yaml.Unmarshal(text, &n); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		commands, jobs := 0, 0
		var walk func(key string, n *yaml.Node)
		walk = func(key string, n *yaml.Node) {
			if n.Kind == yaml.MappingNode {
				for i := 0; i+1 < len(n.Content); i += 2 {
					if k := n.Content[i].Value; k == "runs-on" || k == "stage" {
						jobs++
					}
					walk(n.Content[i].Value, n.Content[i+1])
				}
				return
			}
			for _, c := range n.Content {
				walk(key, c)
			}
			switch {
			case n.Kind != yaml.ScalarNode:
			case key == "run", key == "script", key == "before_script":
				commands++
				for _, p := range repo.Shell(expression.ReplaceAllString(n.Value, "X"), ".") {
					t.Errorf("%s:%d: %s", file, n.Line+p.Line, p.Text)
				}
			case key == "uses" && !action.MatchString(n.Value):
				t.Errorf("%s:%d: action %q: want owner/name@COMMIT", file, n.Line, n.Value)
			}
		}
		walk("", &n)
		if commands == 0 || jobs == 0 {
			t.Errorf("%s: %d commands in %d jobs", file, commands, jobs)
		}
	}
}

// TestLocalChecks does the same for the script that every change passes.
func TestLocalChecks(t *testing.T) {
	repo, err := OpenRepository(root, module)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tracked(t, ".ci/run", "*.sh") {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range repo.Shell(string(text), filepath.Dir(file)) {
			t.Errorf("%s:%d: %s", file, 1+p.Line, p.Text)
		}
	}
}

// TestCross: make cross vets every package that has files of its own for a
// system or a processor.
func TestCross(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^CROSS = (.*)$`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("the Makefile has no CROSS")
	}
	listed := strings.Fields(m[1])
	covered := func(dir string) bool {
		return slices.ContainsFunc(listed, func(l string) bool {
			l = strings.TrimPrefix(l, "./")
			tree, ok := strings.CutSuffix(l, "/...")
			return l == dir || ok && (dir == tree || strings.HasPrefix(dir, tree+"/"))
		})
	}
	for _, l := range listed {
		if !repository(t).exists(strings.TrimSuffix(l, "..."), ".") {
			t.Errorf("make cross vets %s, which is not there", l)
		}
	}
	named := regexp.MustCompile(`_(linux|darwin|windows|unix|amd64|arm64)\.go$`)
	n := 0
	for _, f := range tracked(t, "*.go") {
		if named.MatchString(f) && !strings.Contains(f, "testdata/") {
			n++
			if !covered(path.Dir(f)) {
				t.Errorf("%s: add its package to CROSS in the Makefile", f)
			}
		}
	}
	if n == 0 {
		t.Error("no such files were found")
	}
}
