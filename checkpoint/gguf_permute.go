package checkpoint

import "github.com/llama-pajamas/llama-pajamas/tensor"

// maxHeadFloats bounds the buffer in which one head's rows are put in order
// (Llama 3 70B: 128 rows of 8192).
const maxHeadFloats = 1 << 20

// headRows yields the rows of a q or k projection in Hugging Face order. The
// GGUF converter of llama.cpp stores them as
// W.reshape(heads, 2, dim/2, cols).swapaxes(1, 2), that is row 2i+j of a head
// holds its row j*dim/2+i (convert_hf_to_gguf.py, LlamaModel.permute).
type headRows struct {
	src              tensor.Reader
	heads, dim, cols int
}

// stored is where the file has the given row.
func (h *headRows) stored(row int) int {
	head, k := row/h.dim, row%h.dim
	half := h.dim / 2
	return head*h.dim + 2*(k%half) + k/half
}

// ReadFloat32 implements [tensor.Reader].
func (h *headRows) ReadFloat32(dst []float32, offset int64) error {
	var head []float32
	for len(dst) > 0 {
		row, col := int(offset/int64(h.cols)), int(offset%int64(h.cols))
		k := row % h.dim
		rows := min(len(dst)/h.cols, h.dim-k) // whole rows wanted of this head
		n := min(h.cols-col, len(dst))
		if col == 0 && rows*4 >= h.dim && h.dim*h.cols <= maxHeadFloats {
			if head == nil {
				head = make([]float32, h.dim*h.cols)
			}
			start := row - k
			if err := h.src.ReadFloat32(head, int64(start)*int64(h.cols)); err != nil {
				return err
			}
			for i := range rows {
				at := (h.stored(row+i) - start) * h.cols
				copy(dst[i*h.cols:(i+1)*h.cols], head[at:])
			}
			n = rows * h.cols
		} else if err := h.src.ReadFloat32(dst[:n], int64(h.stored(row))*int64(h.cols)+int64(col)); err != nil {
			return err
		}
		dst, offset = dst[n:], offset+int64(n)
	}
	return nil
}
