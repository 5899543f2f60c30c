package matmulnbits

import "github.com/llama-pajamas/llama-pajamas/quant"

func prepare(l *lanes, block int)                { prepareGeneric(l, block) }
func try(l *lanes, steps []step, s quant.Scheme) { tryGeneric(l, steps, s) }
func finish(l *lanes, s quant.Scheme)            { finishGeneric(l, s) }
