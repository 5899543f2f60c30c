//go:build !amd64 || noasm

package tensor

// Without vector conversions none of the elements are done.

func encodeF16Fast([]byte, []float32) (n int, odd bool) { return 0, false }
func decodeF16Fast([]float32, []byte) int               { return 0 }
func decodeBF16Fast([]float32, []byte) int              { return 0 }
