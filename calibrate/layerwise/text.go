package layerwise

import _ "embed"

// TextName names the built-in text in metadata.
const TextName = "built-in text of llama-pajamas (calibrate/layerwise/text.txt)"

// TextSHA256 is the digest of Text: figures made with other bytes are not
// comparable, so a change of the text is a change of this line.
const TextSHA256 = "9bf03bf8e7fc3b7e0b51d3ca661445faf6b703c1870c9cd31a40c348cbb6f3c4"

// Text is what models are calibrated with unless the user gives a text: prose
// in several languages, code, dialogue and mathematics, written for this
// project and disjoint from everything it is evaluated on.
//
//go:embed text.txt
var Text string
