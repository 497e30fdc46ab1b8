package dicom

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SinkConfig is what a pipeline file says about a sink of kind dicom: an archive that results are sent to (C-STORE SCU).
type SinkConfig struct {
	Host         string    `yaml:"host" required:"true" doc:"The archive's host name or address."`
	Port         int       `yaml:"port" default:"104" min:"1" max:"65535" doc:"Its port."`
	AET          string    `yaml:"aet" required:"true" doc:"The AE title that it is called by."`
	Calling      string    `yaml:"calling" default:"GANTRY" doc:"The AE title that we call with."`
	Associations int       `yaml:"associations" default:"4" min:"1" max:"128" doc:"Associations to it in use at once, over all processes."`
	Send         []string  `yaml:"send" default:"dicom" one:"dicom" doc:"What it gets: outputs that are DICOM objects, each exactly as it is. Everything else, and the manifest, is for other sinks."`
	TLS          TLSConfig `yaml:"tls" doc:"How it is spoken to over TLS. Without it the association is not encrypted."`

	Commit       bool            `yaml:"commit" doc:"A task is done once the archive has confirmed that it keeps what it was sent (storage commitment)."`
	CommitWithin time.Duration   `yaml:"commit_within" default:"5m" min:"1s" max:"168h" doc:"How long that may take. Then it is asked once more, and then the task fails with not_committed. Twice of it has to fit into the timeout of responding."`
	Listen       string          `yaml:"listen" filled:"true" doc:"Where the archive reaches us with what it confirms, as host:port, under the AE title that we call with. Needed with commit. It may be that of a source."`
	ListenTLS    ListenTLSConfig `yaml:"listen_tls" doc:"How that is spoken over TLS."`
}

// TLSConfig is how a peer is spoken to over TLS 1.2 or later (PS3.15 section B.10).
type TLSConfig struct {
	Use  bool   `yaml:"use" doc:"Speaks TLS; ca, cert and name say so too."`
	CA   string `yaml:"ca" filled:"true" path:"true" doc:"File with the certificates of those who sign the peer's certificate, as PEM; the system's without it."`
	Cert string `yaml:"cert" filled:"true" path:"true" doc:"File with our certificate, and those between it and its authority, as PEM, for a peer that asks for one."`
	Key  string `yaml:"key" filled:"true" path:"true" doc:"File with the key of the certificate, as PEM."`
	Name string `yaml:"name" filled:"true" doc:"The name that the peer's certificate has to bear; host without it."`
}

// ListenTLSConfig is how peers speak to us over TLS.
type ListenTLSConfig struct {
	Cert string `yaml:"cert" filled:"true" path:"true" doc:"File with our certificate, and those between it and its authority, as PEM."`
	Key  string `yaml:"key" filled:"true" path:"true" doc:"File with the key of the certificate, as PEM."`
	CA   string `yaml:"ca" filled:"true" path:"true" doc:"File with the certificates of those who sign the peers' certificates, as PEM. With it each peer has to show one."`
}

// Target is the archive's address, and as its model the AE title.
func (c SinkConfig) Target() gantry.Target {
	return gantry.Target{Scheme: "dicom", Host: strings.Trim(c.Host, "[]"), Port: strconv.Itoa(c.port()), Model: c.AET}
}

// AtOnce is how many associations are in use at once.
func (c SinkConfig) AtOnce() int { return cmp.Or(c.Associations, defaultMost) }

// Patience is how long a task may wait for commitment: for the answers to two requests.
func (c SinkConfig) Patience() time.Duration {
	if !c.Commit {
		return 0
	}
	return 2 * c.within()
}

func (c SinkConfig) within() time.Duration { return cmp.Or(c.CommitWithin, 5*time.Minute) }

func (c SinkConfig) port() int       { return cmp.Or(c.Port, 104) }
func (c SinkConfig) calling() string { return cmp.Or(c.Calling, "GANTRY") }

// Check lists what is wrong with the config.
func (c SinkConfig) Check() (found []gantry.FieldProblem) {
	bad := func(key, format string, args ...any) {
		found = append(found, gantry.FieldProblem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if c.Host == "" || strings.ContainsAny(c.Host, "/ @?#") || strings.Count(c.Host, ":") == 1 {
		bad("host", "is no host name or address; the port has a key of its own")
	}
	if !dicom.ValidAE(c.AET) {
		bad("aet", "is no AE title: 1 to 16 printable ASCII characters without backslash")
	}
	if !dicom.ValidAE(c.calling()) {
		bad("calling", "is no AE title: 1 to 16 printable ASCII characters without backslash")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls.cert", "goes with key, and key with cert")
	}
	l := c.ListenTLS
	if (l.Cert == "") != (l.Key == "") || l.CA != "" && l.Cert == "" {
		bad("listen_tls.cert", "cert and key go together, and ca needs both")
	}
	switch {
	case c.Commit && c.Listen == "":
		bad("listen", "is needed with commit: the archive confirms on an association of its own")
	case !c.Commit && (c.Listen != "" || l != ListenTLSConfig{}):
		bad("listen", "goes with commit: true; nobody else calls a sink")
	case c.Listen != "":
		if text := checkAddress(c.Listen, true); text != "" {
			bad("listen", "%s", text)
		}
	}
	return found
}

// place is where the archive calls us.
func (c SinkConfig) place() Place {
	l := c.ListenTLS
	return Place{Listen: c.Listen, AET: c.calling(), Allow: []Allowed{{AET: c.AET}}, Cert: l.Cert, Key: l.Key, CA: l.CA, Commit: true}
}
