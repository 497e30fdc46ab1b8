package dicom

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Takes is all that is sent to the AE title. Who may send counts for nothing: a sink of ours that may not can deliver nothing.
func (c SourceConfig) Takes() gantry.Keys {
	host, port, _ := net.SplitHostPort(c.Listen)
	return gantry.Keys{Place: at(cmp.Or(host, "localhost"), port), Prefix: c.AET + "/"}
}

// Moves is nothing: instances stay nowhere.
func (c SourceConfig) Moves() []string { return nil }

// Lays is all that is sent to the archive, by the AE title that it is called by.
func (c SinkConfig) Lays() gantry.Keys {
	return gantry.ResultKeys(at(c.Host, strconv.Itoa(c.Port)), c.AET+"/", gantry.DefaultKey)
}

// at names an address. What listens at all of a machine, and all that it has for itself, is one; that another one is the machine's own nobody
// can tell from a file.
func at(host, port string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return "dicom " + net.JoinHostPort(host, port)
}
