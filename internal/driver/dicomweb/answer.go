package dicomweb

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Attributes of an answer (PS3.6), as the DICOM JSON model writes them.
const (
	tagStudy    = "0020000D" // Study Instance UID
	tagSeries   = "0020000E" // Series Instance UID
	tagOfStudy  = "00201208" // Number of Study Related Instances
	tagOfSeries = "00201209" // Number of Series Related Instances
)

const (
	maxMatches = 10000
	maxCount   = 1e9
)

// attribute is one of the DICOM JSON model (PS3.18 annex F). An IS is a number, or a text that holds one.
type attribute struct {
	Value []any `json:"Value"`
}

// matches are what a search found.
type matches []map[string]attribute

// parseMatches reads the answer to a search: an array of data sets. What is none, or longer than an answer may be, is BadResponse.
func parseMatches(body []byte) (matches, error) {
	var found matches
	switch {
	case len(body) > maxAnswer:
		return nil, gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "ask archive: its answer is longer than %d bytes", maxAnswer)
	case len(bytes.TrimSpace(body)) == 0:
		return nil, nil
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "ask archive: its answer is no DICOM JSON")
	}
	if len(found) > maxMatches {
		return nil, gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "ask archive: more than %d matches", maxMatches)
	}
	return found, nil
}

// is tells whether a match is about what was asked for: an archive that does not know a key ignores it and answers with all
// that it has (PS3.18 section 10.6.1.1). An empty tag is about anything.
func is(m map[string]attribute, tag, uid string) bool {
	if tag == "" {
		return true
	}
	text, ok := first(m, tag).(string)
	return ok && strings.TrimRight(text, " \x00") == uid
}

func first(m map[string]attribute, tag string) any {
	if v := m[tag].Value; len(v) > 0 {
		return v[0]
	}
	return nil
}

// holds tells whether a match is about a UID.
func (found matches) holds(tag, uid string) bool {
	for _, m := range found {
		if is(m, tag, uid) {
			return true
		}
	}
	return false
}

// count adds up how many instances the matches about a UID have; false if there is no match, or one that does not say.
func (found matches) count(tag, uid, count string) (total int, known bool) {
	for _, m := range found {
		if !is(m, tag, uid) {
			continue
		}
		n, ok := number(first(m, count))
		if total += n; !ok || total > maxCount {
			return 0, false
		}
		known = true
	}
	return total, known
}

// number reads a count.
func number(v any) (int, bool) {
	switch x := v.(type) {
	case float64:
		if x >= 1 && x <= maxCount && x == float64(int(x)) {
			return int(x), true
		}
	case string:
		n, err := strconv.Atoi(strings.Trim(x, " \x00"))
		return n, err == nil && n >= 1 && n <= maxCount
	}
	return 0, false
}
