// Package http drives inference services that take media in the body of a POST and answer with
// media or JSON. Read config.go first (what a pipeline file may say), then processor.go (one call),
// body.go (what is sent), answer.go (what comes back) and json.go (a JSON answer, checked as it
// passes).
package http

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ProcessorConfig is what a pipeline file says about a processor of kind http.
type ProcessorConfig struct {
	URL     string            `yaml:"url" required:"true" doc:"Where each request is posted: an absolute http or https URL, which may hold a query."`
	Body    string            `yaml:"body" default:"raw" doc:"raw: the one item itself is the body. zip: a ZIP archive of all items, uncompressed, in order."`
	Headers map[string]string `yaml:"headers" doc:"Headers that are the same in every request."`
	Accept  string            `yaml:"accept" default:"image/png, image/jpeg, application/dicom, application/json" doc:"The Accept header."`
}

// The values of ProcessorConfig.Body.
const (
	bodyRaw = "raw"
	bodyZip = "zip"
)

const defaultAccept = gantry.MediaPNG + ", " + mediaJPEG + ", " + gantry.MediaDICOM + ", " + gantry.MediaJSON

// Target is the URL's origin in lower case, without the port that its scheme has anyway.
func (c ProcessorConfig) Target() gantry.Target {
	u, err := url.Parse(c.URL)
	if err != nil {
		return gantry.Target{}
	}
	t := gantry.Target{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Hostname()), Port: u.Port()}
	if t.Scheme == "http" && t.Port == "80" || t.Scheme == "https" && t.Port == "443" {
		t.Port = ""
	}
	return t
}

// Check lists what is wrong with the config.
func (c ProcessorConfig) Check() []gantry.FieldProblem {
	var found []gantry.FieldProblem
	if text := checkURL(c.URL); text != "" {
		found = append(found, gantry.FieldProblem{Key: "url", Text: text})
	}
	if c.Body != "" && c.Body != bodyRaw && c.Body != bodyZip {
		found = append(found, gantry.FieldProblem{Key: "body", Text: fmt.Sprintf("is %q, not raw or zip", c.Body)})
	}
	if !isFieldValue(c.Accept) {
		found = append(found, gantry.FieldProblem{Key: "accept", Text: "holds a control character"})
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		text := checkHeader(name, c.Headers[name])
		if key := http.CanonicalHeaderKey(name); seen[key] {
			text = fmt.Sprintf("%s: is there twice", key)
		} else {
			seen[key] = true
		}
		if text != "" {
			found = append(found, gantry.FieldProblem{Key: "headers", Text: text})
		}
	}
	return found
}

// checkURL says what is wrong with a URL, without quoting it: it may hold a password.
func checkURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is no URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "is not an absolute http or https URL"
	case u.Hostname() == "" || u.Opaque != "":
		return "names no host"
	case u.User != nil:
		return "holds a user or password; name a credential with auth instead"
	case strings.Contains(s, "#"):
		return "holds a fragment"
	}
	if _, port, ok := strings.Cut(strings.TrimPrefix(u.Host, "["+u.Hostname()+"]"), ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has no port from 1 to 65535"
		}
	}
	return ""
}

// checkHeader says what is wrong with a static header. Values are not quoted: some are keys.
func checkHeader(name, value string) string {
	switch key := http.CanonicalHeaderKey(name); {
	case !isToken(name):
		return fmt.Sprintf("%q is no name of a header", name)
	case !isFieldValue(value):
		return fmt.Sprintf("%s: holds a control character", key)
	case key == "Authorization":
		return key + ": name a credential with auth instead"
	case key == "Accept":
		return key + ": has a setting of its own, accept"
	case isOurs(key):
		return key + ": is set by gantry"
	}
	return ""
}

// isOurs tells the headers that a driver or the connection sets (RFC 9110 section 7.6.1 for those
// of one hop).
func isOurs(key string) bool {
	switch key {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Accept-Encoding", "Idempotency-Key",
		"X-Idempotency-Key", "Expect", "Connection", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate",
		"Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// isToken tells a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isFieldValue tells what may stand in a header (RFC 9110 section 5.5).
func isFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
