package onnx

import "slices"

// rotaryEmbedding (ai.onnx 23): X [batch, heads, seq, D] or [batch, seq,
// heads·D] with num_heads; cos and sin [max, D/2] with position_ids [batch,
// seq], else [batch, seq, D/2], where D is rotary_embedding_dim if given.
func rotaryEmbedding(c *call) {
	sameShape(c)
	if !c.rank(0, 3, 4) {
		return
	}
	half, ok := rotaryHalf(c, "num_heads")
	if !ok {
		return
	}
	if c.has(3) {
		c.want(1, "with position_ids", Unknown, half)
		c.want(2, "with position_ids", Unknown, half)
		c.rank(3, 2)
		return
	}
	seq := c.dim(0, -2)
	c.want(1, "without position_ids", c.dim(0, 0), seq, half)
	c.want(2, "without position_ids", c.dim(0, 0), seq, half)
}

// rotaryEmbeddingMS (com.microsoft): the same with inputs input, position_ids
// [1] or [batch, seq], cos and sin [max, D/2].
func rotaryEmbeddingMS(c *call) {
	sameShape(c)
	c.rank(1, 1, 2)
	if !c.rank(0, 3, 4) {
		return
	}
	half := Unknown
	if len(c.in[0].shape) == 4 || c.intAttr("num_heads", 0) != 0 || c.intAttr("rotary_embedding_dim", 0) != 0 {
		var ok bool
		if half, ok = rotaryHalf(c, "num_heads"); !ok {
			return
		}
	}
	c.want(2, "for the rotated part of a head", Unknown, half)
	c.want(3, "for the rotated part of a head", Unknown, half)
}

// rotaryHalf is half the rotated part of a head of input 0.
func rotaryHalf(c *call, headsAttr string) (half Dim, ok bool) {
	d, heads := c.dim(0, -1), c.intAttr(headsAttr, 0)
	if len(c.in[0].shape) == 3 {
		if heads <= 0 {
			c.fail("", "an input of rank 3 needs the attribute %s", headsAttr)
			return Unknown, false
		}
		if d, ok = divDim(d, heads); !ok {
			c.failIn(0, "last extent is no multiple of %s = %d", headsAttr, heads)
			return Unknown, false
		}
	}
	if r := c.intAttr("rotary_embedding_dim", 0); r > 0 {
		if d.IsFixed() && r > d.Size {
			c.fail("", "rotary_embedding_dim = %d is more than the head size %v", r, d)
			return Unknown, false
		}
		d = Fixed(r)
	}
	if half, ok = divDim(d, 2); !ok {
		c.fail("", "the rotated part of a head, %v, is odd", d)
	}
	return half, ok
}

// tensorScatter (ai.onnx 24): past_cache [batch, .., max, ..] gets update, the
// same shape but for the sequence axis, at write_indices [batch].
func tensorScatter(c *call) {
	past := c.in[0].shape
	sameShape(c)
	if !past.Known() {
		return
	}
	k, ok := c.axis(c.intAttr("axis", -2), len(past))
	if !ok {
		return
	}
	if k == 0 {
		c.fail("", "axis 0 is the batch and cannot be the sequence")
		return
	}
	want := slices.Clone(past)
	want[k] = Unknown
	c.want(1, "for the cache, any length along the sequence axis", want...)
	if u := c.in[1].shape; len(u) == len(past) && u[k].IsFixed() && past[k].IsFixed() && u[k].Size > past[k].Size {
		c.failIn(1, "longer than the cache %v", past)
	}
	c.want(2, "(one per sequence)", past[0])
}

// attention (ai.onnx 23 to 25): Q, K, V as [batch, heads, seq, D] or [batch,
// seq, heads·D]; past_key and past_value [batch, kv heads, past, D]. Outputs Y
// in Q's form, present_key, present_value, qk.
func attention(c *call) {
	for i := range 3 {
		if !c.rank(i, 3, 4) {
			return
		}
	}
	c.rank(4, 4)
	c.rank(5, 4)
	q, okQ := headDims(c, 0, "q_num_heads")
	k, okK := headDims(c, 1, "kv_num_heads")
	v, okV := headDims(c, 2, "kv_num_heads")
	if !okQ || !okK || !okV {
		return
	}
	if _, ok := merge(q.size, k.size); !ok {
		c.failIn(1, "head size %v, but Q has %v", k.size, q.size)
	}
	if _, ok := merge(k.heads, v.heads); !ok {
		c.failIn(2, "%v heads, but K has %v", v.heads, k.heads)
	}
	if q.heads.IsFixed() && k.heads.Size > 0 && q.heads.Size%k.heads.Size != 0 {
		c.fail("", "%v query heads are no multiple of %v key heads", q.heads, k.heads)
	}
	c.want(4, "(past_key)", q.batch, k.heads, Unknown, k.size)
	c.want(5, "(past_value)", q.batch, v.heads, Unknown, v.size)
	total := k.seq
	if c.has(4) {
		total = addDims(c.dim(4, 2), k.seq)
	}
	if len(c.in[0].shape) == 3 {
		c.setShape(0, Shape{q.batch, q.seq, mulDims(q.heads, v.size)})
	} else {
		c.setShape(0, Shape{q.batch, q.heads, q.seq, v.size})
	}
	c.setShape(1, Shape{q.batch, k.heads, total, k.size})
	c.setShape(2, Shape{q.batch, v.heads, total, v.size})
	c.setShape(3, Shape{q.batch, q.heads, q.seq, total})
}

// heads is a tensor of attention heads taken apart.
type heads struct{ batch, heads, seq, size Dim }

func headDims(c *call, i int, attr string) (h heads, ok bool) {
	if len(c.in[i].shape) == 4 {
		return heads{c.dim(i, 0), c.dim(i, 1), c.dim(i, 2), c.dim(i, 3)}, true
	}
	n := c.intAttr(attr, 0)
	if n <= 0 {
		c.fail("", "an input of rank 3 needs the attribute %s", attr)
		return h, false
	}
	size, ok := divDim(c.dim(i, 2), n)
	if !ok {
		c.failIn(i, "last extent is no multiple of %s = %d", attr, n)
	}
	return heads{c.dim(i, 0), Fixed(n), c.dim(i, 1), size}, ok
}

// multiHeadAttention (com.microsoft): query [batch, seq, hidden], value
// [batch, kv, hidden_v] or [batch, heads, kv, D]. Packed forms of rank 5 get
// no shapes.
func multiHeadAttention(c *call) {
	n := c.intAttr("num_heads", 0)
	if n <= 0 {
		c.fail("", "num_heads = %d, want a positive number", n)
		return
	}
	if !c.rank(0, 3, 5) || len(c.in[0].shape) == 5 {
		return
	}
	if _, ok := divDim(c.dim(0, 2), n); !ok {
		c.failIn(0, "last extent is no multiple of num_heads = %d", n)
		return
	}
	width := c.dim(0, 2)
	switch len(c.in[2].shape) {
	case 3:
		width = c.dim(2, 2)
	case 4:
		width = scaleDim(c.dim(2, 3), n)
	}
	c.setShape(0, Shape{c.dim(0, 0), c.dim(0, 1), width})
}

// Positions of GroupQueryAttention's inputs.
const (
	gqaKey, gqaValue, gqaPastKey, gqaPastValue     = 1, 2, 3, 4
	gqaSeqlens, gqaTotal, gqaCos, gqaSin           = 5, 6, 7, 8
	gqaPositions, gqaBias, gqaSink, gqaKS, gqaVS   = 9, 10, 11, 12, 13
	gqaQNorm, gqaKNorm, gqaQuerySeqlens, gqaInputs = 14, 15, 16, 17
)

// groupQueryAttention (com.microsoft; ONNX Runtime 1.32): query [batch, seq,
// H·D] with key and value [batch, seq, KV·D], or query [batch, seq, (H+2·KV)·D]
// alone; caches [batch, KV, length, D], D/2 where an element has 4 bits.
func groupQueryAttention(c *call) {
	h, kv := c.intAttr("num_heads", 0), c.intAttr("kv_num_heads", 0)
	if h <= 0 || kv <= 0 || h%kv != 0 || h > 1<<20 {
		c.fail("", "num_heads = %d must be a positive multiple of kv_num_heads = %d", h, kv)
		return
	}
	if !c.rank(0, 3) {
		return
	}
	size, ok := gqaHeadSize(c, h, kv)
	if !ok {
		return
	}
	if size.IsFixed() && size.Size%8 != 0 {
		c.failIn(0, "head size %v is no multiple of 8", size)
	}
	batch, seq := c.dim(0, 0), c.dim(0, 1)
	stored := size
	if c.intAttr("kv_cache_bit_width", 0) == 4 {
		stored, _ = divDim(size, 2)
	}
	c.setShape(0, Shape{batch, seq, scaleDim(size, h)})
	gqaCaches(c, Shape{batch, Fixed(kv), Unknown, stored})
	gqaRotary(c, size, batch, seq)
	if c.rank(gqaSeqlens, 1, 2) {
		want := append(Shape{batch}, repeatDim(Fixed(1), len(c.in[gqaSeqlens].shape)-1)...)
		c.want(gqaSeqlens, "(one per sequence)", want...)
	}
	if c.rank(gqaTotal, 0, 1) && len(c.in[gqaTotal].shape) == 1 {
		c.want(gqaTotal, "(a single number)", Fixed(1))
	}
	c.rank(gqaBias, 4)
	c.want(gqaSink, "(one per head)", Fixed(h))
	c.want(gqaQNorm, "(the head size)", size)
	c.want(gqaKNorm, "(the head size)", size)
	c.want(gqaQuerySeqlens, "(one per sequence)", batch)
}

// gqaHeadSize checks the width of query, key and value against each other.
func gqaHeadSize(c *call, h, kv int64) (size Dim, ok bool) {
	if c.has(gqaKey) != c.has(gqaValue) {
		c.fail("", "key and value must be given together or not at all")
		return Unknown, false
	}
	if !c.has(gqaKey) {
		if size, ok = divDim(c.dim(0, 2), h+2*kv); !ok {
			c.failIn(0, "packed width is no multiple of num_heads + 2·kv_num_heads = %d", h+2*kv)
		}
		return size, ok
	}
	if size, ok = divDim(c.dim(0, 2), h); !ok {
		c.failIn(0, "width is no multiple of num_heads = %d", h)
		return size, false
	}
	for _, i := range []int{gqaKey, gqaValue} {
		c.want(i, "for kv_num_heads and the head size", c.dim(0, 0), c.dim(0, 1), scaleDim(size, kv))
	}
	return size, true
}

func gqaCaches(c *call, want Shape) {
	if c.has(gqaPastKey) != c.has(gqaPastValue) {
		c.fail("", "past_key and past_value must be given together or not at all")
	}
	for i, in := range []int{gqaPastKey, gqaPastValue} {
		c.want(in, "for kv_num_heads and the head size", want...)
		// A present may be longer than its past, or the same buffer.
		c.setShape(1+i, want)
		if !c.has(in) {
			c.setElem(1+i, c.in[0].elem)
		}
	}
}

func gqaRotary(c *call, size, batch, seq Dim) {
	rotary := c.intAttr("do_rotary", 0) != 0
	if rotary && (!c.has(gqaCos) || !c.has(gqaSin)) {
		c.fail("", "do_rotary needs cos_cache and sin_cache")
		return
	}
	c.rank(gqaCos, 2)
	if rotary && size.IsFixed() && size.Size%16 != 0 {
		c.fail("", "do_rotary wants a head size that is a multiple of 16, got %v; rotate before the node", size)
	}
	if w := c.dim(gqaCos, 1); w.IsFixed() && size.IsFixed() && w.Size > size.Size/2 {
		c.failIn(gqaCos, "wider than half the head size %v", size)
	}
	if c.has(gqaCos) && c.in[gqaCos].shape.Known() {
		c.want(gqaSin, "as cos_cache", c.in[gqaCos].shape...)
	}
	c.want(gqaPositions, "(one per token)", batch, seq)
}
