// Package http drives inference services that take media in the body of a POST and answer with
// media or JSON, and delivers results to a web server. Read config.go first (what a pipeline file
// may say of a processor), then processor.go (one call), body.go and form.go (what is sent),
// answer.go (what comes back), json.go (a JSON answer, checked as it passes), parts.go and
// outputs.go (answers that hold several outputs), digest.go (bytes held to their digests), async.go,
// deferred.go and ticket.go (answers that come later), sink.go (deliveries) and source.go (uploads, whose
// API is another package).
package http

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ProcessorConfig is what a pipeline file says about a processor of kind http.
type ProcessorConfig struct {
	URL       string            `yaml:"url" required:"true" doc:"Where each request is posted: an absolute http or https URL, which may hold a query."`
	Body      string            `yaml:"body" default:"raw" doc:"raw: the one item itself is the body. zip: a ZIP archive of all items, uncompressed, in order. multipart: a form with a file for each item. json: an object with each item in base64."`
	Field     string            `yaml:"field" default:"file" doc:"The name that each file has in a multipart form."`
	Metadata  string            `yaml:"metadata" doc:"A JSON object that goes with every request: the field metadata of a multipart form, or the key metadata of a JSON body."`
	Headers   map[string]string `yaml:"headers" doc:"Headers that are the same in every request."`
	KeyHeader string            `yaml:"key_header" default:"Idempotency-Key" doc:"The header that carries a key which is the same for every try of the same work."`
	Answer    string            `yaml:"answer" default:"auto" doc:"auto: one output, or one for each part of a multipart answer. multipart: a multipart answer and nothing else. base64: a JSON object whose outputs hold media in base64."`
	Accept    string            `yaml:"accept" doc:"The Accept header; without it, what answer takes."`
	Async     AsyncConfig       `yaml:"async" doc:"How answers that come later are waited for. Without it every answer comes at once."`
}

// The values of ProcessorConfig.Body.
const (
	bodyRaw       = "raw"
	bodyZip       = "zip"
	bodyMultipart = "multipart"
	bodyJSON      = "json"
)

// The values of ProcessorConfig.Answer.
const (
	answerAuto      = "auto"
	answerMultipart = "multipart"
	answerBase64    = "base64"
)

const (
	defaultField     = "file"
	defaultKeyHeader = "Idempotency-Key"
	maxField         = 128      // bytes of a field's name
	maxMetadata      = 64 << 10 // bytes
)

const (
	singleAccept    = gantry.MediaPNG + ", " + gantry.MediaJPEG + ", " + gantry.MediaDICOM + ", " + gantry.MediaJSON + ", " + gantry.MediaNPY
	multipartAccept = mediaMixed + ", " + mediaForm
	defaultAccept   = singleAccept + ", " + multipartAccept
)

// accept is the Accept header.
func (c ProcessorConfig) accept() string {
	switch {
	case c.Accept != "":
		return c.Accept
	case c.Answer == answerMultipart:
		return multipartAccept
	case c.Answer == answerBase64:
		return gantry.MediaJSON
	}
	return defaultAccept
}

// Target is the URL's origin in lower case, without the port that its scheme has anyway.
func (c ProcessorConfig) Target() gantry.Target { return gantry.WebTarget(c.URL) }

// Check lists what is wrong with the config.
func (c ProcessorConfig) Check() []gantry.FieldProblem {
	var found gantry.FieldProblems
	found.Add("url", gantry.CheckWebURL(c.URL))
	found.Add("body", checkOne(c.Body, bodyRaw, bodyZip, bodyMultipart, bodyJSON))
	found.Add("field", c.checkField())
	found.Add("metadata", c.checkMetadata())
	found.Add("answer", checkOne(c.Answer, answerAuto, answerMultipart, answerBase64))
	if !gantry.IsFieldValue(c.Accept) {
		found.Add("accept", "holds a control character")
	}
	found.Add("key_header", c.checkKeyHeader())
	for _, p := range c.Async.Check() {
		found.Add(strings.TrimSuffix("async."+p.Key, "."), p.Text)
	}
	found.Add("async.callback_header", c.checkCallbackHeader())
	return append(found, checkHeaders(c.Headers)...)
}

// checkOne says that a value is none of the names; an empty one stands for the first.
func checkOne(value string, names ...string) string {
	if value == "" || slices.Contains(names, value) {
		return ""
	}
	last := len(names) - 1
	return fmt.Sprintf("is %q, not %s or %s", value, strings.Join(names[:last], ", "), names[last])
}

// checkField says what is wrong with the name of the files in a form.
func (c ProcessorConfig) checkField() string {
	switch {
	case len(c.Field) > maxField:
		return fmt.Sprintf("is longer than %d bytes", maxField)
	case strings.ContainsFunc(c.Field, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }):
		return "holds what cannot stand in a form: a quote, a backslash, or other than printable ASCII"
	case c.Field == metadataField && c.Metadata != "" && c.Body == bodyMultipart:
		return "is the name that the metadata have"
	}
	return ""
}

// checkMetadata says what is wrong with the metadata. They are not quoted.
func (c ProcessorConfig) checkMetadata() string {
	switch {
	case c.Metadata == "":
		return ""
	case c.Body != bodyMultipart && c.Body != bodyJSON:
		return "goes with body: multipart or json alone"
	case len(c.Metadata) > maxMetadata:
		return fmt.Sprintf("is longer than %d bytes", maxMetadata)
	case json.Unmarshal([]byte(c.Metadata), &map[string]json.RawMessage{}) != nil || strings.TrimSpace(c.Metadata) == "null":
		return "is no JSON object"
	}
	return ""
}

// checkKeyHeader says what is wrong with the header of the key.
func (c ProcessorConfig) checkKeyHeader() string {
	key := http.CanonicalHeaderKey(c.KeyHeader)
	switch {
	case c.KeyHeader == "":
		return ""
	case !gantry.IsToken(c.KeyHeader):
		return fmt.Sprintf("%q is no name of a header", c.KeyHeader)
	case gantry.IsWireHeader(key), key == "Authorization", key == "Accept", key == "User-Agent":
		return key + ": has another meaning"
	}
	for name := range c.Headers {
		if http.CanonicalHeaderKey(name) == key && key != defaultKeyHeader { // of which checkHeader speaks
			return key + ": is one of headers, too"
		}
	}
	return ""
}

// checkHeaders lists what is wrong with static headers.
func checkHeaders(headers map[string]string) []gantry.FieldProblem {
	var found gantry.FieldProblems
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		text := checkHeader(name, headers[name])
		if key := http.CanonicalHeaderKey(name); seen[key] {
			text = fmt.Sprintf("%s: is there twice", key)
		} else {
			seen[key] = true
		}
		found.Add("headers", text)
	}
	return found
}

// checkHeader says what is wrong with a static header. Values are not quoted: some are keys.
func checkHeader(name, value string) string {
	switch key := http.CanonicalHeaderKey(name); {
	case !gantry.IsToken(name):
		return fmt.Sprintf("%q is no name of a header", name)
	case !gantry.IsFieldValue(value):
		return fmt.Sprintf("%s: holds a control character", key)
	case key == "Authorization":
		return key + ": name a credential with auth instead"
	case key == "Accept":
		return key + ": has a setting of its own, accept"
	case gantry.IsWireHeader(key), key == defaultKeyHeader, key == "X-Idempotency-Key":
		return key + ": is set by gantry"
	}
	return ""
}
