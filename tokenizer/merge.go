package tokenizer

import (
	"math"
	"math/bits"
)

// merge says that the tokens left and right, side by side, become one.
type merge struct{ left, right int32 }

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// mergeTable maps a pair of tokens to rank and result: open addressing with
// linear probing, at most three quarters full.
type mergeTable struct {
	slots []mergeSlot
	shift uint
}

type mergeSlot struct {
	key  uint64 // noPair where free
	rank uint32
	id   int32
}

const noPair = math.MaxUint64

func newMergeTable(n int) mergeTable {
	logSize := max(bits.Len(uint(n+n/3)), 4)
	t := mergeTable{slots: make([]mergeSlot, 1<<logSize), shift: uint(64 - logSize)}
	for i := range t.slots {
		t.slots[i].key = noPair
	}
	return t
}

// slot gives the place of key or the free place where it belongs.
func (t *mergeTable) slot(key uint64) *mergeSlot {
	mask := uint64(len(t.slots) - 1)
	i := key * 0x9E3779B97F4A7C15 >> t.shift // Fibonacci hashing, Knuth 6.4
	for {
		s := &t.slots[i&mask]
		if s.key == key || s.key == noPair {
			return s
		}
		i++
	}
}

// noRank is the rank of a pair that does not merge.
const noRank = math.MaxUint32

func (t *mergeTable) find(left, right int32) (rank uint32, id int32) {
	s := t.slot(pairKey(left, right))
	if s.key == noPair {
		return noRank, -1
	}
	return s.rank, s.id
}

// maxScan is the longest word, in symbols, whose pairs are scanned for each
// merge; longer ones go through a heap.
const maxScan = 48

// mergeAll applies the merges to ids in place, lowest rank first and leftmost
// first among equals, and gives the number of tokens left.
func (e *encoder) mergeAll(ids []int32) int {
	if len(ids) < 2 {
		return len(ids)
	}
	if len(ids) > maxScan {
		return e.mergeHeap(ids)
	}
	table := &e.t.model.table
	var ranks [maxScan]uint32
	var made [maxScan]int32
	n := len(ids)
	for i := 0; i+1 < n; i++ {
		ranks[i], made[i] = table.find(ids[i], ids[i+1])
	}
	for {
		best, at := uint32(noRank), 0
		for i, r := range ranks[:n-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			return n
		}
		ids[at] = made[at]
		copy(ids[at+1:n-1], ids[at+2:n])
		copy(ranks[at+1:n-1], ranks[at+2:n])
		copy(made[at+1:n-1], made[at+2:n])
		n--
		if n == 1 {
			return n
		}
		if at > 0 {
			ranks[at-1], made[at-1] = table.find(ids[at-1], ids[at])
		}
		if at+1 < n {
			ranks[at], made[at] = table.find(ids[at], ids[at+1])
		}
	}
}

// mergeHeap is mergeAll for long words: a linked list of symbols and a heap of
// candidate merges, n log n.
func (e *encoder) mergeHeap(ids []int32) int {
	table := &e.t.model.table
	n := len(ids)
	e.prev, e.next = resize(e.prev, n), resize(e.next, n)
	prev, next := e.prev, e.next
	h := e.heap[:0]
	for i := range n {
		prev[i], next[i] = int32(i-1), int32(i+1)
		if i+1 < n {
			if rank, _ := table.find(ids[i], ids[i+1]); rank != noRank {
				h = append(h, candidate(rank, i))
			}
		}
	}
	h.init()
	for len(h) > 0 {
		top := h.pop()
		at := int(uint32(top))
		// A symbol taken by its left neighbour has id -1; a candidate is stale
		// where its pair has changed.
		if ids[at] < 0 || int(next[at]) >= n {
			continue
		}
		right := next[at]
		rank, id := table.find(ids[at], ids[right])
		if rank != uint32(top>>32) {
			continue
		}
		ids[at], ids[right] = id, -1
		next[at] = next[right]
		if int(next[at]) < n {
			prev[next[at]] = int32(at)
			if rank, _ := table.find(id, ids[next[at]]); rank != noRank {
				h.push(candidate(rank, at))
			}
		}
		if p := prev[at]; p >= 0 {
			if rank, _ := table.find(ids[p], id); rank != noRank {
				h.push(candidate(rank, int(p)))
			}
		}
	}
	e.heap = h
	k := 0
	for _, id := range ids {
		if id >= 0 {
			ids[k] = id
			k++
		}
	}
	return k
}

func resize(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// mergeQueue is a binary min-heap of candidates: rank in the upper half, position
// in the lower.
type mergeQueue []uint64

func candidate(rank uint32, at int) uint64 { return uint64(rank)<<32 | uint64(uint32(at)) }

func (h mergeQueue) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h mergeQueue) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if h[i] <= h[c] {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

func (h *mergeQueue) push(v uint64) {
	q := append(*h, v)
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if q[parent] <= q[i] {
			break
		}
		q[parent], q[i] = q[i], q[parent]
		i = parent
	}
	*h = q
}

func (h *mergeQueue) pop() uint64 {
	q := *h
	top := q[0]
	q[0] = q[len(q)-1]
	q = q[:len(q)-1]
	q.down(0)
	*h = q
	return top
}
