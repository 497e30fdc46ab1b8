package dicom

import "github.com/gantry-imaging/gantry/internal/gantry"

// ArchiveConfig is what a pipeline file says about an archive of kind dicom: one that is asked how many instances it has of a
// study or series (C-FIND SCU).
type ArchiveConfig struct {
	Host    string    `yaml:"host" required:"true" doc:"The archive's host name or address."`
	Port    int       `yaml:"port" default:"104" min:"1" max:"65535" doc:"Its port."`
	AET     string    `yaml:"aet" required:"true" doc:"The AE title that it is called by."`
	Calling string    `yaml:"calling" default:"GANTRY" doc:"The AE title that we call with."`
	TLS     TLSConfig `yaml:"tls" doc:"How it is spoken to over TLS. Without it the association is not encrypted."`
}

func (c ArchiveConfig) peer() peerConfig {
	return peerConfig{host: c.Host, port: c.Port, aet: c.AET, calling: c.Calling, tls: c.TLS}
}

// Target is the archive's address, and as its model the AE title, as of a sink.
func (c ArchiveConfig) Target() gantry.Target { return c.peer().target() }

// Check lists what is wrong with the config.
func (c ArchiveConfig) Check() []gantry.FieldProblem { return c.peer().check() }
