package convert

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// Unchanged lists the artifacts, by Dir, that the output folder already holds as
// this job would write them: complete, by this version of the program, of the
// same source files, planned files and calibration. Plan again with them in
// [Options.Keep]. Call it after [Job.SetStats]; the source files are hashed.
func (j *Job) Unchanged(ctx context.Context) ([]string, error) {
	var out []string
	var sources []modeldir.FileRecord
	for i, a := range j.Artifacts {
		if a.Reference {
			continue
		}
		dir := filepath.Join(j.opts.Output, filepath.FromSlash(a.Dir))
		b, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile))
		if err != nil {
			continue
		}
		m, err := modeldir.ParseMetadata(b)
		if err != nil || m.Tool.Version != Version || m.Tool.Name != ToolName || !j.sameCalibration(a, m) || !sameFiles(dir, j.Plan.Artifacts[i]) {
			continue
		}
		if sources == nil {
			if sources, err = j.sources(ctx); err != nil {
				return nil, err
			}
		}
		if slices.Equal(sources, m.Source.Files) {
			out = append(out, a.Dir)
		}
	}
	return out, nil
}

// sources hashes the source files.
func (j *Job) sources(ctx context.Context) ([]modeldir.FileRecord, error) {
	var out []modeldir.FileRecord
	for _, f := range j.ck.SourceFiles() {
		sum, err := f.SHA256(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, modeldir.FileRecord{Name: f.Name, Bytes: f.Bytes, SHA256: sum})
	}
	return out, nil
}

// sameCalibration reports whether an artifact was calibrated as the job would.
func (j *Job) sameCalibration(a *Artifact, m *modeldir.Metadata) bool {
	switch {
	case j.opts.GGUF.Importance != nil:
		return m.Target.Format != "gguf" // an importance matrix is not compared
	case a.Recipe == nil || a.Recipe.Calibration == "":
		return true
	case j.stats == nil:
		return strings.HasPrefix(m.Target.Calibration, "probe:")
	}
	return strings.HasPrefix(m.Target.Calibration, j.stats.Source)
}

// sameFiles reports whether a folder holds an artifact's planned files and
// constants, and data files of the planned sizes.
func sameFiles(dir string, a *plan.Artifact) bool {
	for _, f := range a.Files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil || !bytes.Equal(b, f.Data) {
			return false
		}
	}
	for _, part := range a.Data.Files() {
		st, err := os.Stat(filepath.Join(dir, part.Name))
		if err != nil || st.Size() != part.Size {
			return false
		}
	}
	if len(a.Data.Files()) != 1 {
		return true
	}
	f, err := os.Open(filepath.Join(dir, a.Data.Files()[0].Name))
	if err != nil {
		return false
	}
	defer f.Close()
	for _, c := range a.Data.Consts {
		b := make([]byte, len(c.Data))
		if _, err := f.ReadAt(b, c.Offset); err != nil || !bytes.Equal(b, c.Data) {
			return false
		}
	}
	return true
}
