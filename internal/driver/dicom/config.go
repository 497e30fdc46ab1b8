package dicom

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadConfig is Illegal: what a file says about an endpoint of kind dicom cannot be.
const CodeBadConfig gantry.Code = "bad_config"

// What becomes of other bytes under a SOP Instance UID that is on record.
const (
	duplicatesRevise = "revise"
	duplicatesRefuse = "refuse"
)

// SourceConfig is what a pipeline file says about a source of kind dicom: an AE title that modalities and archives send
// instances to (C-STORE SCP).
type SourceConfig struct {
	AET      string        `yaml:"aet" required:"true" doc:"The AE title that peers call."`
	Listen   string        `yaml:"listen" required:"true" doc:"Where peers reach it, as host:port; without a host at every address of the machine. Several AE titles may share one."`
	Allow    []AllowConfig `yaml:"allow" doc:"Who may send. Anybody who is not in it is rejected."`
	AllowAny bool          `yaml:"allow_any" doc:"Says that anybody who reaches the address may send. Without it, and without allow, only a loopback address is taken."`
	Cert     string        `yaml:"cert" filled:"true" path:"true" doc:"File with the server's certificate, and those between it and its authority, as PEM. With it the address speaks TLS alone."`
	Key      string        `yaml:"key" filled:"true" path:"true" doc:"File with the key of the certificate, as PEM."`
	CA       string        `yaml:"ca" filled:"true" path:"true" doc:"File with the certificates of those who sign the peers' certificates, as PEM. With it each peer has to show one."`

	MaxAssociations int `yaml:"max_associations" default:"64" min:"1" max:"1024" doc:"Associations to this AE title at once."`
	MaxPerPeer      int `yaml:"max_per_peer" default:"32" min:"1" max:"1024" doc:"Of these, of one peer: of a calling AE title at an address."`
	MaxMiB          int `yaml:"max_mib" default:"4096" min:"1" max:"1048576" doc:"The largest instance, in MiB."`

	Duplicates string `yaml:"duplicates" default:"revise" one:"revise refuse" doc:"What becomes of an instance whose UID came before with other bytes: revise, both are kept and the later one counts; refuse, the sender is told that it is not taken. The same bytes are taken once."`
	Commit     bool   `yaml:"commit" doc:"Answers requests for storage commitment: instances that are on record are committed."`
}

// AllowConfig is a peer that may send. All that it says must hold.
type AllowConfig struct {
	AET         string `yaml:"aet" filled:"true" doc:"The AE title by which it calls itself. Any without it."`
	From        string `yaml:"from" filled:"true" doc:"The network that it calls from, as 10.0.0.0/8, or its address. Anywhere without it."`
	Certificate string `yaml:"certificate" filled:"true" doc:"The common name, or a DNS name, of the certificate that it shows. Needs ca."`
	Report      string `yaml:"report" filled:"true" doc:"Where it listens, as host:port, for what becomes of its requests for storage commitment. Without it they are answered on the association on which they came, if that is still open."`
}

// Target is the port that peers call. A source of this kind calls nobody but those that its peers' requests for storage
// commitment are answered to.
func (c SourceConfig) Target() gantry.Target {
	host, port, _ := net.SplitHostPort(c.Listen)
	return gantry.Target{Scheme: "dicom-scp", Host: cmp.Or(host, "*"), Port: port, Model: c.AET}
}

// Further are the targets that storage commitment is reported to.
func (c SourceConfig) Further() []gantry.FurtherTarget {
	var out []gantry.FurtherTarget
	for _, a := range c.Allow {
		if c.Commit && a.Report != "" {
			out = append(out, gantry.FurtherTarget{Target: a.reportTarget()})
		}
	}
	return out
}

func (a AllowConfig) reportTarget() gantry.Target {
	host, port, _ := net.SplitHostPort(a.Report)
	return gantry.Target{Scheme: "dicom", Host: host, Port: port, Model: a.AET}
}

// Describes says that the attributes of what comes are known.
func (c SourceConfig) Describes() gantry.Facts { return gantry.FactHeader }

// Limit is the largest instance in bytes.
func (c SourceConfig) Limit() int64 { return int64(c.MaxMiB) << 20 }

// Check lists what is wrong with the config.
func (c SourceConfig) Check() []gantry.FieldProblem {
	var found gantry.FieldProblems
	found.Add("aet", checkTitle(c.AET))
	text := checkAddress(c.Listen, true)
	if text == "" && len(c.Allow) == 0 && !c.AllowAny && !loopback(c.Listen) {
		text = "is open to a network; say in allow who may send, or allow_any: true"
	}
	found.Add("listen", text)
	if c.AllowAny && len(c.Allow) > 0 {
		found.Add("allow_any", "goes without allow, which says who may send")
	}
	if (c.Cert == "") != (c.Key == "") {
		found.Add("cert", "goes with key, and key with cert")
	}
	if c.CA != "" && c.Cert == "" {
		found.Add("ca", "needs cert and key: a peer shows its certificate over TLS alone")
	}
	for i, a := range c.Allow {
		for _, p := range a.check(c) {
			found.Add(fmt.Sprintf("allow[%d].%s", i, p.Key), p.Text)
		}
	}
	return found
}

// check lists what is wrong with a peer of c.
func (a AllowConfig) check(c SourceConfig) (found gantry.FieldProblems) {
	if a.AET == "" && a.From == "" && a.Certificate == "" {
		found.Add("aet", "an entry says aet, from or certificate; for anybody there is allow_any: true")
	}
	if a.AET != "" {
		found.Add("aet", checkTitle(a.AET))
	}
	if _, err := parseNetwork(a.From); err != nil {
		found.Add("from", "is neither a network, as 10.0.0.0/8, nor an address")
	}
	if a.Certificate != "" && c.CA == "" {
		found.Add("certificate", "needs ca, which says whose certificates count")
	}
	switch {
	case a.Report == "":
	case !c.Commit:
		found.Add("report", "goes with commit: true")
	case a.AET == "":
		found.Add("report", "goes with aet: that is who is called there")
	default:
		found.Add("report", checkAddress(a.Report, false))
	}
	return found
}

// checkAddress says what is wrong with a host:port; nothing if it is one.
func checkAddress(s string, hostless bool) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "is no host:port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "has no port from 1 to 65535"
	}
	if host == "" && !hostless {
		return "has no host"
	}
	return ""
}

// loopback tells whether an address is reached from this machine alone.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// parseNetwork reads a network or an address; empty is none.
func parseNetwork(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("no address")
		}
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return p.Masked(), nil
}

// place is where the source is called.
func (c SourceConfig) place() Place {
	p := Place{Listen: c.Listen, AET: c.AET, Cert: c.Cert, Key: c.Key, CA: c.CA, Last: true, Most: c.MaxAssociations, PerPeer: c.MaxPerPeer,
		MaxBytes: c.Limit(), Commit: c.Commit}
	for _, a := range c.Allow {
		from, _ := parseNetwork(a.From) // checked
		p.Allow = append(p.Allow, Allowed{AET: a.AET, From: from, Certificate: a.Certificate})
	}
	return p
}
