package dicom

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What stands in for what a file does not say of a peer.
const (
	ourTitle    = "GANTRY"
	defaultPort = 104
)

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

// check says what is wrong with the block; nothing if nothing is.
func (c ListenTLSConfig) check() string {
	if (c.Cert == "") != (c.Key == "") || c.CA != "" && c.Cert == "" {
		return "cert and key go together, and ca needs both"
	}
	return ""
}

// peerConfig is what the sections of all peers that we call say alike.
type peerConfig struct {
	host         string
	port         int
	aet, calling string
	tls          TLSConfig
}

// target is the peer's address, and as its model the AE title.
func (c peerConfig) target() gantry.Target {
	return gantry.Target{Scheme: "dicom", Host: strings.Trim(c.host, "[]"), Port: strconv.Itoa(cmp.Or(c.port, defaultPort)), Model: c.aet}
}

// title is the AE title that we call with.
func (c peerConfig) title() string { return cmp.Or(c.calling, ourTitle) }

// check lists what is wrong with it.
func (c peerConfig) check() (found gantry.FieldProblems) {
	if c.host == "" || strings.ContainsAny(c.host, "/ @?#") || strings.Count(c.host, ":") == 1 {
		found.Add("host", "is no host name or address; the port has a key of its own")
	}
	found.Add("aet", checkTitle(c.aet))
	found.Add("calling", checkTitle(c.title()))
	if (c.tls.Cert == "") != (c.tls.Key == "") {
		found.Add("tls.cert", "goes with key, and key with cert")
	}
	return found
}

// peering is how the peer is reached. Errors are those of clientTLS.
func (c peerConfig) peering() (peering, error) {
	t := c.target()
	secure, err := clientTLS(c.tls, t.Host)
	return peering{address: net.JoinHostPort(t.Host, t.Port), calling: c.title(), called: c.aet, tls: secure}, err
}

// checkTitle says what is wrong with an AE title.
func checkTitle(s string) string {
	if !dicom.ValidAE(s) {
		return "is no AE title: 1 to 16 printable ASCII characters without backslash"
	}
	return ""
}
