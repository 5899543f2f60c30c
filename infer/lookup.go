package infer

import (
	"math"
	"slices"
	"time"
)

// Lookup guesses the next tokens of an answer from the text before it: where
// the last tokens stood before, what followed them then may follow again. A
// session checks a guess, the draft, in one run ([Session.EvalAll]), which
// reads the weights once. The sampler chooses from the logits of each position
// as it would without a draft, and as soon as its choice is not the draft's the
// rest is forgotten: sampler, penalties and random numbers go the way they go
// without drafts.
//
// The logits are another matter. Products of several positions take other
// kernels than those of one, whose sums round otherwise; activations rounded to
// 8 bits make of that a difference that changes the likeliest token at one
// position of thirty (docs/speculation.md). So a Lookup drafts only where runs
// of several tokens were found to give the logits of single ones to the last
// bit: before the first draft of a length as many tokens, evaluated alone, are
// computed again in one run. Where they differ there are no drafts, unless the
// options say Loose.
//
// A Lookup belongs to one session and, like it, serves one call at a time.
type Lookup struct {
	loose   bool
	noClock bool
	index   ngrams
	class   [len(ngramSizes)]estimate
	cost    [maxDraft + 2]duration // of runs of so many tokens; [1] is a single one
	exact   map[trialKey]bool      // runs that a trial found exact
	inexact [maxDraft + 2]int      // block of the context from which on runs of so many tokens are not exact
	now     *trial                 // under way
	closed  string                 // why there are no drafts any more
	stats   LookupStats            // of the generation under way
}

// LookupOptions of a [Lookup]. The zero value works.
type LookupOptions struct {
	// Loose drafts even where logits are not the same to the last bit; the text
	// may then be another than without drafts, as it may with another length of
	// chunks.
	Loose bool
	// NoClock decides by a rule what runs of several tokens cost, not by the
	// time they take, so that what is drafted is repeatable. Loose implies it.
	NoClock bool
}

// NewLookup makes a Lookup for one session.
func NewLookup(o LookupOptions) *Lookup {
	l := &Lookup{loose: o.Loose, noClock: o.Loose || o.NoClock, exact: map[trialKey]bool{}}
	for i := range l.inexact {
		l.inexact[i] = math.MaxInt
	}
	for i := range l.class {
		l.class[i] = estimate{hits: 4 * priors[i], all: 4}
	}
	return l
}

// LookupStats is what drafts did for a generation.
type LookupStats struct {
	Runs     int // with a draft
	Drafted  int // tokens in drafts
	Accepted int // of those
	Trials   int // runs that computed tokens again to compare them
	// Off says why there were no drafts, "" where there may be some.
	Off string
}

// LookupRows is the OpenOptions.Rows that drafts want.
const LookupRows = maxDraft + 1

// maxDraft is the longest draft. A run of 8 tokens costs that of 2.4 single
// ones on a CPU; longer ones gain little, as few long drafts are right to the
// end.
const maxDraft = 7

// drafts are the lengths in use: few, as each is tried on its own.
var drafts = [...]int{3, 7}

// ngramSizes are the numbers of last tokens looked for, the longest first;
// priors is how often what followed is right, before anything was seen.
var (
	ngramSizes = [...]int{10, 6, 4, 3, 2}
	priors     = [...]float64{0.85, 0.7, 0.55, 0.4, 0.25}
)

// ngrams finds where the end of a sequence stood before. A token costs one look
// and one entry for each size.
type ngrams struct {
	seq  []int32
	last [len(ngramSizes)]map[uint64]int32 // hash to the length of the sequence behind it
	at   [len(ngramSizes)]int32            // where the sequence's end stood before; 0: nowhere
}

// reset makes the sequence seq; what it begins with is kept.
func (g *ngrams) reset(seq []int32) {
	n := 0
	for n < len(seq) && n < len(g.seq) && g.seq[n] == seq[n] {
		n++
	}
	if n < len(g.seq) {
		*g = ngrams{seq: g.seq[:0]}
		n = 0
	}
	for _, id := range seq[n:] {
		g.push(id)
	}
}

// push appends a token.
func (g *ngrams) push(id int32) {
	g.seq = append(g.seq, id)
	n := len(g.seq)
	// FNV-1a over whole tokens, from the last one back: one pass serves all
	// sizes, which fall.
	hash, size := uint64(14695981039346656037), 0
	for i := len(ngramSizes) - 1; i >= 0; i-- {
		g.at[i] = 0
		if ngramSizes[i] > n {
			continue
		}
		for ; size < ngramSizes[i]; size++ {
			hash = (hash ^ uint64(uint32(g.seq[n-1-size]))) * 1099511628211
		}
		if g.last[i] == nil {
			g.last[i] = map[uint64]int32{}
		}
		if at := g.last[i][hash]; at > 0 && g.same(int(at), size) {
			g.at[i] = at
		}
		g.last[i][hash] = int32(n)
	}
}

// same compares the size tokens before at with the last ones.
func (g *ngrams) same(at, size int) bool {
	for i := 1; i <= size; i++ {
		if g.seq[at-i] != g.seq[len(g.seq)-i] {
			return false
		}
	}
	return true
}

// find is the longest match: its place in ngramSizes, and where what followed
// begins.
func (g *ngrams) find() (class, at int, ok bool) {
	for i, at := range g.at {
		if at > 0 {
			return i, int(at), true
		}
	}
	return 0, 0, false
}

// follow appends n tokens to dst: those behind at and, beyond the end of the
// sequence, those of the draft itself, as a text that repeats itself goes on.
func (g *ngrams) follow(dst []int32, at, n int) []int32 {
	first := len(dst)
	for i := range n {
		if at+i < len(g.seq) {
			dst = append(dst, g.seq[at+i])
		} else {
			dst = append(dst, dst[first+at+i-len(g.seq)])
		}
	}
	return dst
}

// estimate is a share of late; older events count less.
type estimate struct{ hits, all float64 }

const forget = 0.97 // of an event at the next one: some 33 count

func (e *estimate) add(hit bool) {
	e.hits, e.all = e.hits*forget, e.all*forget+1
	if hit {
		e.hits++
	}
}

func (e *estimate) share() float64 { return e.hits / e.all }

// duration of runs of one kind, of late.
type duration float64

func (d *duration) add(t time.Duration) {
	if *d == 0 {
		*d = duration(t)
		return
	}
	// One run that another program held up must not count for much.
	*d += (duration(min(float64(t), 2*float64(*d))) - *d) / 4
}

// trialKey is what a run's kernels may depend on: its length, and how long the
// sequence is, in blocks. llama.cpp's cache is looked at in blocks of 256, and
// its attention to one token works otherwise from the second on; a run never
// crosses a border.
type trialKey struct{ tokens, block int }

const blockTokens = 256

func keyOf(tokens, context int) trialKey { return trialKey{tokens, context / blockTokens} }

// trial is tokens evaluated one by one, to be computed again in one run.
type trial struct {
	key    trialKey
	tokens []int32
	rows   []float32 // their logits
}

// begin prepares for a generation; rows is the session's.
func (l *Lookup) begin(prompt []int32, rows int) {
	l.stats = LookupStats{}
	l.now = nil
	if rows < 2 && l.closed == "" {
		l.closed = "the model was opened without logits of several tokens, or cannot give them"
	}
	l.stats.Off = l.closed
	if l.closed == "" {
		l.index.reset(prompt)
	}
}

// push records a token of the answer, and whether it was foreseen.
func (l *Lookup) push(id int32) {
	if l.closed != "" {
		return
	}
	if class, at, ok := l.index.find(); ok {
		l.class[class].add(l.index.follow(nil, at, 1)[0] == id)
	}
	l.index.push(id)
}

// draft appends to dst what may follow the last token, of which room tokens can
// be used; try says that a trial of runs of that length must come first. context
// is the length of the sequence evaluated so far.
func (l *Lookup) draft(dst []int32, rows, room, context int) (draft []int32, try bool) {
	if l.closed != "" || l.now != nil {
		return dst, false
	}
	class, at, ok := l.index.find()
	if !ok {
		return dst, false
	}
	p := l.class[class].share()
	best, length := 1.05, 0
	if !l.loose {
		room = min(room, blockTokens-1-context%blockTokens)
	}
	for _, n := range drafts {
		if n+1 > rows || n > room {
			break
		}
		gain := (1 - math.Pow(p, float64(n+1))) / (1 - p) / l.relative(n+1)
		known := l.loose
		if !l.loose {
			key := keyOf(n+1, context)
			if key.block >= l.inexact[n+1] {
				continue
			}
			if known = l.exact[key]; !known && gain < 1.3 {
				continue // not worth a trial
			}
			if !known {
				gain *= 0.85 // what is known is used, where it is nearly as good
			}
		}
		if gain > best {
			best, length, try = gain, n, !known
		}
	}
	return l.index.follow(dst, at, length), try
}

// relative is the cost of a run of n tokens in single ones. Where drafts
// can change the text, it must not depend on the clock.
func (l *Lookup) relative(n int) float64 {
	if l.noClock || l.cost[n] == 0 || l.cost[1] == 0 {
		return 1 + 0.22*float64(n-1)
	}
	return float64(l.cost[n] / l.cost[1])
}

// took notes the time of a run.
func (l *Lookup) took(tokens int, t time.Duration) {
	if tokens < len(l.cost) {
		l.cost[tokens].add(t)
	}
}

// try begins a trial: the next tokens are recorded.
func (l *Lookup) try(tokens, context int) { l.now = &trial{key: keyOf(tokens, context)} }

// record notes a token evaluated alone and its logits, where a trial is on; full
// says that it has all of its tokens.
func (l *Lookup) record(id int32, logits []float32) (full bool) {
	if l.now == nil {
		return false
	}
	l.now.tokens = append(l.now.tokens, id)
	l.now.rows = append(l.now.rows, logits...)
	return len(l.now.tokens) == l.now.key.tokens
}

// same compares row i of the trial to the last bit.
func (t *trial) same(i int, logits []float32) bool {
	for j, v := range t.rows[i*len(logits):][:len(logits)] {
		if math.Float32bits(v) != math.Float32bits(logits[j]) {
			return false
		}
	}
	return true
}

// conclude ends the trial. Where a kernel differs, one for longer sequences is
// taken to differ too.
func (l *Lookup) conclude(equal bool) {
	key := l.now.key
	l.now = nil
	l.stats.Trials++
	if equal {
		l.exact[key] = true
		return
	}
	l.inexact[key.tokens] = min(l.inexact[key.tokens], key.block)
	const why = "runs of several tokens round otherwise than single ones here"
	if !slices.ContainsFunc(drafts[:], func(n int) bool { return l.inexact[n+1] > key.block }) {
		l.stats.Off = why
	}
	if l.inexact[key.tokens] == 0 {
		// One kernel or another for several tokens: the first tells of all.
		l.closed, l.stats.Off = why, why
	}
}
