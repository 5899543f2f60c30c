package cli

import (
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress is a bar on standard error, or nothing where that is no terminal or
// --quiet is given.
type progress struct {
	container *mpb.Progress
	bar       *mpb.Bar
}

// newProgress starts a bar named after the work, over a total of units.
func (c *common) newProgress(name string, total int64) *progress {
	if c.Quiet || !c.ErrTerminal {
		return &progress{}
	}
	return startProgress(c.Err, name, total)
}

func startProgress(w io.Writer, name string, total int64) *progress {
	p := &progress{container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(44), mpb.WithRefreshRate(120*time.Millisecond))}
	p.bar = p.container.New(total, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.PrependDecorators(decor.Name(name+"  ")),
		mpb.AppendDecorators(
			decor.Percentage(decor.WC{W: 5}),
			decor.OnComplete(decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 6}), ""),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), ""),
		))
	return p
}

// set moves the bar to done.
func (p *progress) set(done, _ int64) {
	if p.bar != nil {
		p.bar.SetCurrent(done)
	}
}

// grow moves a bar whose total becomes known on the way; it was begun with
// total 0 and ends with finish.
func (p *progress) grow(done, total int64) {
	if p.bar != nil {
		p.bar.SetTotal(total, false)
		p.bar.SetCurrent(done)
	}
}

// finish ends a bar that grew.
func (p *progress) finish(complete bool) {
	if p.bar != nil && complete {
		p.bar.SetTotal(-1, true)
	}
	p.stop()
}

// stop takes the bar off the screen where the work did not finish, and leaves
// it full where it did.
func (p *progress) stop() {
	if p.bar == nil {
		return
	}
	if !p.bar.Completed() {
		p.bar.Abort(true)
	}
	p.container.Wait()
}
