package ggml

import (
	"fmt"
	"io"
)

// Reader yields the elements of a tensor stored as blocks. It implements
// tensor.Reader: any range may be asked for, and memory stays bounded whatever
// the tensor's size.
type Reader struct {
	R io.ReaderAt
	// Offset is where the first block starts, in bytes.
	Offset int64
	Type   Type
	// Elements is the tensor's size, a multiple of the block length.
	Elements int64
}

// chunkBytes bounds the buffer of one step, so that the blocks and their
// floats (up to 7 times the bytes) stay in the second-level cache.
const chunkBytes = 32 << 10

// ReadFloat32 fills dst with the elements from offset on.
func (r *Reader) ReadFloat32(dst []float32, offset int64) error {
	decode := decoder(r.Type)
	if decode == nil {
		return unsupported(r.Type)
	}
	if offset < 0 || int64(len(dst)) > r.Elements || offset > r.Elements-int64(len(dst)) {
		return fmt.Errorf("read %v blocks: elements %d to %d of %d asked for", r.Type, offset, offset+int64(len(dst)), r.Elements)
	}
	if len(dst) == 0 {
		return nil
	}
	block, size := r.Type.Block(), r.Type.Bytes()
	first, skip := offset/int64(block), int(offset%int64(block))
	blocks := (skip + len(dst) + block - 1) / block
	buf := make([]byte, min(blocks, chunkBytes/size)*size)
	var partial [256]float32 // a block of which only a part is wanted
	for blocks > 0 {
		n := min(blocks, len(buf)/size)
		b := buf[:n*size]
		at := r.Offset + first*int64(size)
		if got, err := r.R.ReadAt(b, at); got < len(b) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read %d bytes at offset %d: %w", len(b), at, err)
		}
		first, blocks = first+int64(n), blocks-n
		if skip > 0 {
			decode(partial[:block], b[:size])
			k := copy(dst, partial[skip:block])
			dst, b, skip = dst[k:], b[size:], 0
		}
		whole := min(len(dst)/block, len(b)/size)
		decode(dst[:whole*block], b[:whole*size])
		dst, b = dst[whole*block:], b[whole*size:]
		if len(b) > 0 { // the last block, cut short
			decode(partial[:block], b)
			copy(dst, partial[:block])
		}
	}
	return nil
}
