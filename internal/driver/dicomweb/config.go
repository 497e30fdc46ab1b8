// Package dicomweb speaks DICOMweb (PS3.18) to archives: it asks how many instances there are of a study or series (QIDO-RS).
// Read config.go (what a pipeline file may say of an archive), then expect.go (the question) and answer.go (what comes back).
package dicomweb

import (
	"net/url"
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

// Target is the URL's origin.
func (c ArchiveConfig) Target() gantry.Target { return gantry.WebTarget(c.URL) }

// Check lists what is wrong with the config.
func (c ArchiveConfig) Check() []gantry.FieldProblem {
	text := gantry.CheckWebURL(c.URL)
	if text == "" {
		text = checkRoot(c.URL)
	}
	if text == "" {
		return nil
	}
	return []gantry.FieldProblem{{Key: "url", Text: text}}
}

// checkRoot says why a URL is not the root of services.
func checkRoot(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "is no URL"
	case u.RawQuery != "" || u.ForceQuery:
		return "holds a query; it is the root of the services alone"
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/studies"):
		return "ends with studies, which lies below it"
	}
	return ""
}
