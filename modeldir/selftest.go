package modeldir

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// SelfTestVersion is the schema number of [SelfTest]. Readers refuse a higher
// one.
const SelfTestVersion = 1

// SelfTest is selftest.json: prompts with the logits that follow them, so that
// a device can be told from the arithmetic it should do.
type SelfTest struct {
	SchemaVersion int `json:"schema_version"`
	// Reference says what gave the logits, such as "float32 graph of the same
	// checkpoint, ONNX Runtime 1.32.0, CPU".
	Reference string         `json:"reference"`
	Cases     []SelfTestCase `json:"cases"`
}

// SelfTestCase is one prompt.
type SelfTestCase struct {
	Tokens []int32 `json:"tokens"`
	// Top lists the largest logits behind the last token, the largest first.
	Top []TokenLogit `json:"top"`
}

// TokenLogit is a token's id with its logit.
type TokenLogit struct {
	ID    int32   `json:"id"`
	Logit float32 `json:"logit"`
}

// LargestLogits lists the n largest logits of a row, the largest first, of equal
// ones the lower ids.
func LargestLogits(row []float32, n int) []TokenLogit {
	ids := make([]int32, len(row))
	for i := range ids {
		ids[i] = int32(i)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(row[b], row[a]) })
	var top []TokenLogit
	for _, id := range ids[:min(n, len(ids))] {
		top = append(top, TokenLogit{ID: id, Logit: row[id]})
	}
	return top
}

// ParseSelfTest reads selftest.json.
func ParseSelfTest(data []byte) (*SelfTest, error) {
	var s SelfTest
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, jsonError(err)
	}
	if s.SchemaVersion > SelfTestVersion {
		return nil, fieldError("schema_version", "%d is newer than the %d this program reads; update the program", s.SchemaVersion, SelfTestVersion)
	}
	for i, c := range s.Cases {
		field := fmt.Sprintf("cases[%d]", i)
		if len(c.Tokens) == 0 || len(c.Top) == 0 {
			return nil, fieldError(field, "it needs tokens and top logits")
		}
		for _, id := range c.Tokens {
			if id < 0 {
				return nil, fieldError(field, "%d is not a token id", id)
			}
		}
		last := float32(math.Inf(1))
		for _, t := range c.Top {
			if t.ID < 0 || t.Logit > last || t.Logit != t.Logit {
				return nil, fieldError(field, "top must list ids by falling logit")
			}
			last = t.Logit
		}
	}
	return &s, nil
}

// ReadSelfTest reads the folder's selftest.json; nil without an error where
// there is none.
func (f *Folder) ReadSelfTest() (*SelfTest, error) {
	data, err := readSmall(filepath.Join(f.Dir, SelfTestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var s *SelfTest
		if s, err = ParseSelfTest(data); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("read %s of model folder %s: %w", SelfTestFile, f.Dir, err)
}

// Write puts selftest.json into a folder.
func (s *SelfTest) Write(dir string) error {
	s.SchemaVersion = SelfTestVersion
	data, err := json.MarshalIndent(s, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, SelfTestFile), append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", SelfTestFile, err)
	}
	return nil
}
