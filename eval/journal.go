package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A journal keeps what an evaluation has found so far: one JSON object a line,
// first a journalHead, then an entry for each figure and each answer. A line that
// a crash left half-written is dropped.

// journalHead is the first line.
type journalHead struct {
	Journal        int      `json:"journal"` // version
	Settings       Settings `json:"settings"`
	SettingsSHA256 string   `json:"settings_sha256"`
}

const journalVersion = 1

// entry is a line about one artifact.
type entry struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`

	Perplexity   *Perplexity `json:"perplexity,omitempty"`
	Fidelity     *Fidelity   `json:"fidelity,omitempty"`
	Record       *Record     `json:"record,omitempty"`
	ChatTemplate *bool       `json:"chat_template,omitempty"`
	Seconds      float64     `json:"seconds,omitempty"`
}

// SettingsError says that a journal or results file is of a run with other
// settings.
type SettingsError struct {
	File string
	// Was and Is are the first setting that differs, as JSON.
	Name, Was, Is string
}

func (e *SettingsError) Error() string {
	return fmt.Sprintf("%s is of a run with other settings: %s was %s and is now %s; give another --output, or remove the file", e.File, e.Name, e.Was, e.Is)
}

// differ finds the first setting in which two runs differ.
func differ(file string, was, is Settings) error {
	var a, b map[string]json.RawMessage
	for _, v := range []struct {
		s   Settings
		dst *map[string]json.RawMessage
	}{{was, &a}, {is, &b}} {
		data, err := json.Marshal(v.s)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, v.dst); err != nil {
			return err
		}
	}
	for _, name := range settingNames(a, b) {
		if !bytes.Equal(a[name], b[name]) {
			show := func(m map[string]json.RawMessage) string {
				if v, ok := m[name]; ok {
					return string(v)
				}
				return "not given"
			}
			return &SettingsError{file, name, show(a), show(b)}
		}
	}
	return nil
}

// journal is an open journal; a nil one keeps nothing.
type journal struct {
	f    *os.File
	path string
	err  error // the first; writing ends with it
}

// startJournal begins a journal; one that is there must be asked for with Resume.
func startJournal(path string, s Settings) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s holds an interrupted run: --resume goes on with it; else remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("begin the journal: %w", err)
	}
	j := &journal{f: f, path: path}
	j.write(journalHead{Journal: journalVersion, Settings: s, SettingsSHA256: s.hash()})
	if j.err != nil {
		f.Close()
		return nil, errors.Join(j.err, os.Remove(path))
	}
	return j, nil
}

// resumeJournal reads a journal and opens it to go on. Where there is none the
// error is fs.ErrNotExist.
func resumeJournal(path string, s Settings, each func(entry)) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	good, err := readJournal(f, path, s, each)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	j := &journal{f: f, path: path}
	if good == 0 { // begun and not a line written
		j.write(journalHead{Journal: journalVersion, Settings: s, SettingsSHA256: s.hash()})
	}
	return j, j.err
}

// readJournal hands over the entries and returns the length of the whole lines.
func readJournal(r io.Reader, path string, s Settings, each func(entry)) (good int64, err error) {
	b := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := b.ReadBytes('\n')
		if err == io.EOF {
			return good, nil // what follows the last line end is half a line
		}
		if err != nil {
			return 0, fmt.Errorf("read the journal %s: %w", path, err)
		}
		if n == 1 {
			var h journalHead
			if err := json.Unmarshal(line, &h); err != nil || h.Journal == 0 {
				return 0, fmt.Errorf("%s is no journal of an evaluation: remove it, or give another --output", path)
			}
			if h.Journal != journalVersion {
				return 0, fmt.Errorf("%s is of version %d, this program reads %d: remove it, or give another --output", path, h.Journal, journalVersion)
			}
			if err := differ(path, h.Settings, s); err != nil {
				return 0, err
			}
		} else {
			var e entry
			if err := json.Unmarshal(line, &e); err != nil {
				return 0, fmt.Errorf("%s, line %d is damaged: %w; remove the file and begin anew", path, n, err)
			}
			each(e)
		}
		good += int64(len(line))
	}
}

func (j *journal) write(v any) {
	if j == nil || j.err != nil {
		return
	}
	line, err := json.Marshal(v)
	if err == nil {
		_, err = j.f.Write(append(line, '\n')) // one call: whole lines or a half last one
	}
	if err != nil {
		j.err = fmt.Errorf("write the journal %s: %w", j.path, err)
	}
}

// close ends the journal and removes it where the run is done.
func (j *journal) close(done bool) error {
	if j == nil {
		return nil
	}
	err := errors.Join(j.err, j.f.Close())
	if done && err == nil {
		err = os.Remove(j.path)
	}
	return err
}
