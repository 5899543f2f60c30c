package verify

import (
	"context"

	"github.com/llama-pajamas/llama-pajamas/convert/tomlx"
)

// checkMLX is what [ReadStored] does for a folder for mlx-lm, whose files have
// been compared with their records.
func (s *Stored) checkMLX(ctx context.Context, dir string, problem func(string, ...any)) error {
	i, err := tomlx.Check(ctx, dir)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		problem("%v", err)
		return nil
	}
	s.WeightBytes, s.BitsPerWeight = i.WeightBytes, i.BitsPerWeight()
	if n := s.Metadata.Architecture.Parameters; n != i.Parameters {
		problem("the files hold %d weights, metadata says %d", i.Parameters, n)
	}
	return nil
}
