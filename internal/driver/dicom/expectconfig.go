package dicom

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ArchiveConfig is what a pipeline file says about an archive of kind dicom: one that is asked how many instances it has of a
// study or series (C-FIND SCU).
type ArchiveConfig struct {
	Host    string    `yaml:"host" required:"true" doc:"The archive's host name or address."`
	Port    int       `yaml:"port" default:"104" min:"1" max:"65535" doc:"Its port."`
	AET     string    `yaml:"aet" required:"true" doc:"The AE title that it is called by."`
	Calling string    `yaml:"calling" default:"GANTRY" doc:"The AE title that we call with."`
	TLS     TLSConfig `yaml:"tls" doc:"How it is spoken to over TLS. Without it the association is not encrypted."`
}

// Target is the archive's address, and as its model the AE title, as of a sink.
func (c ArchiveConfig) Target() gantry.Target {
	return gantry.Target{Scheme: "dicom", Host: strings.Trim(c.Host, "[]"), Port: strconv.Itoa(c.port()), Model: c.AET}
}

func (c ArchiveConfig) port() int       { return cmp.Or(c.Port, 104) }
func (c ArchiveConfig) calling() string { return cmp.Or(c.Calling, "GANTRY") }

// Check lists what is wrong with the config.
func (c ArchiveConfig) Check() (found []gantry.FieldProblem) {
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
	return found
}
