package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	// cacheSlots times (maxCachedWord + 4*maxCachedWord + 64) bytes is the most a
	// cache can take, 12 MB; with text it is about 2 MB.
	cacheSlots    = 1 << 15
	maxCachedWord = 64 // bytes
)

// wordCache remembers the tokens of words: one slot per hash value, the last
// word wins. Slots are replaced atomically, so that any number of goroutines may
// share a cache without locks.
type wordCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

func newWordCache() *wordCache {
	return &wordCache{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[cachedWord], cacheSlots)}
}

// get gives the slot of word and its tokens, nil where it is not cached.
func (c *wordCache) get(word string) (slot int, ids []int32) {
	slot = int(maphash.String(c.seed, word) & (cacheSlots - 1))
	if w := c.slots[slot].Load(); w != nil && w.word == word {
		return slot, w.ids
	}
	return slot, nil
}

// put remembers word, which get has given slot; it copies word and ids.
func (c *wordCache) put(slot int, word string, ids []int32) {
	kept := make([]int32, len(ids))
	copy(kept, ids)
	c.slots[slot].Store(&cachedWord{strings.Clone(word), kept})
}
