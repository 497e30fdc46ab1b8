package dicom

import (
	"cmp"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// AwaitConfig is what a pipeline file says of the answers of a service that speaks DICOM: it sends them to us on
// associations of its own.
type AwaitConfig struct {
	Modality    string          `yaml:"modality" doc:"Of the objects that are answers, such as SR or SEG; without it any."`
	SOPClass    string          `yaml:"sop_class" doc:"UID of their SOP class; without it any."`
	Count       int             `yaml:"count" min:"0" max:"100000" doc:"How many there are for what is sent at once. Without it one, or, with quiet, as many as come."`
	Quiet       time.Duration   `yaml:"quiet" min:"10ms" doc:"How long after one of them no other comes, if there are not count of them before."`
	Within      time.Duration   `yaml:"within" default:"15m" min:"1s" doc:"From the end of sending to the last of them."`
	From        string          `yaml:"from" doc:"The AE title that the service calls with; without it, the one that it is called by. * is any."`
	Network     string          `yaml:"network" doc:"Where the service calls from, such as 10.0.0.9 or 10.0.0.0/24; without it anywhere."`
	Certificate string          `yaml:"certificate" filled:"true" doc:"The common name, or a DNS name, of the certificate that it shows. Needs ca in listen_tls."`
	AET         string          `yaml:"aet" doc:"Our AE title that the service calls; without it, the one that we call with."`
	Listen      string          `yaml:"listen" default:":11112" doc:"The address that it calls, host:port. Sources and processors with the same one share it."`
	TLS         ListenTLSConfig `yaml:"listen_tls" doc:"How that is spoken over TLS."`
}

// anyTitle stands for every AE title.
const anyTitle = "*"

// Check lists what is wrong with the block.
func (c AwaitConfig) Check() []gantry.FieldProblem {
	var found gantry.FieldProblems
	if c.Modality != "" && !isCode(c.Modality) {
		found.Add("modality", "is no code of at most 16 capital letters, digits, spaces and underscores")
	}
	if c.SOPClass != "" && !dicom.ValidUID(c.SOPClass) {
		found.Add("sop_class", "is no UID")
	}
	if c.Quiet > c.Within {
		found.Add("quiet", "is longer than within")
	}
	if c.From != "" && c.From != anyTitle {
		found.Add("from", checkTitle(c.From))
	}
	if c.AET != "" {
		found.Add("aet", checkTitle(c.AET))
	}
	if _, err := parseNetwork(c.Network); err != nil {
		found.Add("network", "is neither a network, as 10.0.0.0/24, nor an address")
	}
	if c.Certificate != "" && c.TLS.CA == "" {
		found.Add("certificate", "needs ca in listen_tls, which says whose certificates count")
	}
	text := checkAddress(c.Listen, true)
	if text == "" && c.From == anyTitle && c.Network == "" && !loopback(c.Listen) {
		text = "is open to a network; say in from or network who may call"
	}
	found.Add("listen", text)
	found.Add("listen_tls.cert", c.TLS.check())
	return found
}

// isCode tells a code string (PS3.5 section 6.2, CS).
func isCode(s string) bool {
	return len(s) <= 16 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != ' ' && r != '_'
	})
}

// count is how many answers complete one; 0: as many as come until there is quiet.
func (c AwaitConfig) count() int {
	if c.Quiet > 0 {
		return c.Count
	}
	return cmp.Or(c.Count, 1)
}

// calling is the AE title that the service calls with; empty: any.
func (c ProcessorConfig) calling() string {
	if c.Await.From == anyTitle {
		return ""
	}
	return cmp.Or(c.Await.From, c.AET)
}

// called is our AE title that it calls.
func (c ProcessorConfig) called() string { return cmp.Or(c.Await.AET, c.Calling) }

// CalledAt is where the service answers.
func (c ProcessorConfig) CalledAt() (address, name string, ok bool) {
	c = c.withDefaults()
	return c.Await.Listen, c.called(), true
}

// place is where it calls us.
func (c ProcessorConfig) place() Place {
	from, _ := parseNetwork(c.Await.Network) // checked; none is anywhere
	l := c.Await.TLS
	return Place{Listen: c.Await.Listen, AET: c.called(), Allow: []Allowed{{AET: c.calling(), From: from, Certificate: c.Await.Certificate}}, Cert: l.Cert, Key: l.Key, CA: l.CA}
}
