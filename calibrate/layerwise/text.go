package layerwise

import _ "embed"

// TextName names the built-in text in metadata.
const TextName = "built-in text of llama-pajamas (calibrate/layerwise/text.txt)"

// Text is what models are calibrated with unless the user gives a text: prose
// in several languages, code, dialogue and mathematics, written for this
// project and disjoint from everything it is evaluated on.
//
//go:embed text.txt
var Text string
