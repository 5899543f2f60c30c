package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// File is a file of raw results that goes beside the charts.
type File struct {
	Name  string // "speed.json"
	Title string // what the page calls it
	Data  []byte // nil where the file is there already
}

// Output says where a page goes: Markdown and HTML are files, Folder has the
// charts and raw results. Markdown is "" where the HTML page alone is written.
type Output struct {
	Markdown, HTML, Folder string
}

// DefaultName is the page's name where a folder is given.
const DefaultName = "BENCHMARK_COMPARISON"

// ParseOutput reads what a user names: a file ending in .md, which has an HTML
// page of the same name and a folder of charts beside it; one in .html, which is
// complete alone; or a folder, which gets [DefaultName].md and what belongs to it.
func ParseOutput(path string) (Output, error) {
	info, err := os.Stat(path)
	folder := err == nil && info.IsDir() || strings.HasSuffix(path, "/") || strings.HasSuffix(path, string(filepath.Separator))
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(path, ext)
	switch {
	case path == "":
		return Output{}, errors.New("the name is empty; give a file ending in .md or .html, or a folder")
	case folder, ext == "":
		stem = filepath.Join(path, DefaultName)
	case strings.EqualFold(ext, ".html"), strings.EqualFold(ext, ".htm"):
		return Output{HTML: path}, nil
	case strings.EqualFold(ext, ".md"), strings.EqualFold(ext, ".markdown"):
		return Output{Markdown: path, HTML: stem + ".html", Folder: stem}, nil
	default:
		return Output{}, fmt.Errorf("%s ends in %s; give a file ending in .md or .html, or a folder", path, ext)
	}
	return Output{Markdown: stem + ".md", HTML: stem + ".html", Folder: stem}, nil
}

// Write writes a page and returns the files written, charts first: no page names
// a chart that is not there. What cannot be drawn or stored is left out of the
// page and said in it; the tables are written all the same. Every file appears
// whole or not at all.
func Write(o Output, p *Page, raw []File) (written []string, err error) {
	p = p.cleaned()
	charts, missing := p.charts()
	put := func(path string, data []byte) error {
		if err := writeWhole(path, data); err != nil {
			return err
		}
		written = append(written, path)
		return nil
	}
	var failed []error
	var shown []chart
	var kept []File
	if o.Markdown != "" {
		for _, c := range charts {
			if err := put(filepath.Join(o.Folder, c.file+".svg"), []byte(c.wide.document(c.title, c.description, "", true))); err != nil {
				failed = append(failed, err)
				continue
			}
			shown = append(shown, c)
		}
		for _, f := range raw {
			if f.Data == nil {
				kept = append(kept, f)
				continue
			}
			if err := put(filepath.Join(o.Folder, f.Name), f.Data); err != nil {
				failed = append(failed, err)
				continue
			}
			kept = append(kept, f)
		}
	}
	html, err := p.html(charts, missing)
	if err == nil {
		err = put(o.HTML, []byte(html))
	}
	page := filepath.Base(o.HTML)
	if err != nil {
		failed, page = append(failed, err), ""
	}
	if o.Markdown != "" {
		if err := put(o.Markdown, []byte(p.markdown(shown, missing, filepath.Base(o.Folder), page, kept))); err != nil {
			failed = append(failed, err)
		}
		for _, m := range missing { // a chart of an earlier page would be taken for one of this
			for name, what := range chartFiles {
				if m.What == what {
					_ = os.Remove(filepath.Join(o.Folder, name+".svg"))
				}
			}
		}
	}
	return written, errors.Join(failed...)
}

// chartFiles are the charts' files by what they are called where they are missing.
var chartFiles = map[string]string{
	"size-quality": "chart of quality by size", "speed-quality": "chart of quality by speed",
	"latency": "chart of latency", "first-token": "chart of the first token",
}

// writeWhole writes a file under a temporary name and renames it.
func writeWhole(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Chmod(0o644); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
