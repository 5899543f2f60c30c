package eval

import _ "embed"

// TextName names the built-in text in reports.
const TextName = "WikiText-2 raw test split, first three articles"

// Text is what perplexity is measured on unless another text is given. It is
// under CC BY-SA 3.0 and the GFDL: text/README.md.
//
//go:embed text/wikitext2.txt
var Text string
