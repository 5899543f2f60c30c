package verify

import _ "embed"

// TextName names the built-in text in metadata.
const TextName = "built-in text of llama-pajamas (verify/text.txt)"

// Text is what artifacts are compared on after a conversion: prose, dialogue,
// code, arithmetic and a few other languages, written for this project. It is
// no evaluation data; figures on it rank artifacts of one model and find
// broken ones.
//
//go:embed text.txt
var Text string
