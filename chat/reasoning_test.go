package chat

import (
	"strings"
	"testing"
)

func TestReasoningSplitter(t *testing.T) {
	for _, c := range []struct {
		name, text         string
		opened             bool
		reasoning, content string
	}{
		{"none", "Paris is a city.", false, "", "Paris is a city."},
		{"both", "<think>\nHm, France.\n</think>\n\nParis.", false, "Hm, France.", "Paris."},
		{"opened by the prompt", "\nHm.\n\n</think>\n\nParis.", true, "Hm.", "Paris."},
		{"cut off", "<think>\nHm, Fr", false, "Hm, Fr", ""},
		{"empty", "<think>\n\n</think>\n\nParis.", false, "", "Paris."},
		{"tag in content", "Write <think> here.", false, "", "Write <think> here."},
		{"second block is content", "<think>a</think>b<think>c</think>", false, "a", "b<think>c</think>"},
		{"white space first", "\n <think>a</think>b", false, "a", "b"},
		{"almost a tag", "<thin air>", false, "", "<thin air>"},
		{"almost a closing tag", "<think>a </thin b </think>c", false, "a </thin b", "c"},
		{"only a beginning", "<thi", false, "", "<thi"},
		{"inner space kept", "<think>a\n\n b</think> c d ", false, "a\n\n b", "c d "},
		{"nothing", "", false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := 1; step <= 9; step += 2 {
				s := newReasoningSplitter(c.opened)
				var reasoning, content strings.Builder
				emit := func(p Part) {
					if p.Text == "" {
						t.Error("an empty part")
					}
					if p.Reasoning {
						reasoning.WriteString(p.Text)
					} else {
						content.WriteString(p.Text)
					}
				}
				for rest := c.text; rest != ""; {
					n := min(step, len(rest))
					s.push(rest[:n], emit)
					rest = rest[n:]
				}
				s.flush(emit)
				if reasoning.String() != c.reasoning || content.String() != c.content {
					t.Errorf("in steps of %d: reasoning %q, content %q; want %q, %q", step, reasoning.String(), content.String(), c.reasoning, c.content)
				}
			}
		})
	}
}
