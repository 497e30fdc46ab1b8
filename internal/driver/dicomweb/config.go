// Package dicomweb speaks DICOMweb (PS3.18) to archives: it asks how many instances there are of a study or series (QIDO-RS).
// Read config.go (what a pipeline file may say of an archive), then expect.go (the question) and answer.go (what comes back).
package dicomweb

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of archives.
const (
	CodeBadConfig       gantry.Code = "bad_config"       // Illegal
	CodeMalformedAnswer gantry.Code = "malformed_answer" // BadResponse
	CodeRefused         gantry.Code = "refused"          // by status: Denied, NotFound, Unavailable, Transient or Permanent
)

// ArchiveConfig is what a pipeline file says about an archive of kind dicomweb.
type ArchiveConfig struct {
	URL string `yaml:"url" required:"true" doc:"The root of its DICOMweb services, below which /studies lies: an absolute http or https URL."`
}

// Target is the URL's origin in lower case, without the port that its scheme has anyway.
func (c ArchiveConfig) Target() gantry.Target {
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
func (c ArchiveConfig) Check() []gantry.FieldProblem {
	if text := checkURL(c.URL); text != "" {
		return []gantry.FieldProblem{{Key: "url", Text: text}}
	}
	return nil
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
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return "holds a query or a fragment; it is the root of the services alone"
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/studies"):
		return "ends with studies, which lies below it"
	}
	if _, port, ok := strings.Cut(strings.TrimPrefix(u.Host, "["+u.Hostname()+"]"), ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has no port from 1 to 65535"
		}
	}
	return ""
}
