package dicom

import (
	"cmp"
	"time"

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

// Target is the archive's address, and as its model the AE title.
func (c SinkConfig) Target() gantry.Target { return c.peer().target() }

func (c SinkConfig) peer() peerConfig {
	return peerConfig{host: c.Host, port: c.Port, aet: c.AET, calling: c.Calling, tls: c.TLS}
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

func (c SinkConfig) calling() string { return c.peer().title() }

// Check lists what is wrong with the config.
func (c SinkConfig) Check() []gantry.FieldProblem {
	found := c.peer().check()
	found.Add("listen_tls.cert", c.ListenTLS.check())
	switch {
	case c.Commit && c.Listen == "":
		found.Add("listen", "is needed with commit: the archive confirms on an association of its own")
	case !c.Commit && (c.Listen != "" || c.ListenTLS != ListenTLSConfig{}):
		found.Add("listen", "goes with commit: true; nobody else calls a sink")
	case c.Listen != "":
		found.Add("listen", checkAddress(c.Listen, true))
	}
	return found
}

// CalledAt is where the archive confirms, if it is asked to.
func (c SinkConfig) CalledAt() (address, name string, ok bool) {
	return c.Listen, c.calling(), c.Commit
}

// place is where the archive calls us.
func (c SinkConfig) place() Place {
	l := c.ListenTLS
	return Place{Listen: c.Listen, AET: c.calling(), Allow: []Allowed{{AET: c.AET}}, Cert: l.Cert, Key: l.Key, CA: l.CA, Commit: true}
}
