package dimsetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SCP says how storescp is run. Its zero value is one process that takes one association at a time.
type SCP struct {
	AET   string    // its AE title; empty: STORESCP
	Fork  bool      // a process for each association
	Exact bool      // data sets are written as they come (+B)
	TLS   *Identity // its certificate; callers have to show one of the same authority. nil: no TLS
	Args  []string  // more arguments, such as "-v" or "--refuse"
}

// Storescp runs dcmtk's storescp until the test ends.
func Storescp(t testing.TB, o SCP) *Peer {
	t.Helper()
	p, err := StartStorescp(t.TempDir(), o)
	return until(t, "storescp", p, err)
}

// StartStorescp runs dcmtk's storescp, which writes into dir, until it is stopped. It takes every transfer syntax that it knows.
func StartStorescp(dir string, o SCP) (*Peer, error) {
	if o.AET == "" {
		o.AET = "STORESCP"
	}
	args := []string{"-aet", o.AET, "-od", dir, "-pdu", "131072", "+xa"}
	if o.Fork {
		args = append(args, "--fork")
	}
	if o.Exact {
		args = append(args, "+B")
	}
	if o.TLS != nil {
		args = append(args, o.TLS.Arguments()...)
	}
	args = append(args, o.Args...)
	p, err := start("storescp", dir, func(port int) ([]string, error) { return append(args, fmt.Sprint(port)), nil })
	if err == nil {
		p.AET = o.AET
	}
	return p, err
}

// Archive says how dcmqrscp is run.
type Archive struct {
	AET  string           // its AE title; empty: ARCHIVE
	Know map[string]*Peer // peers by their AE titles, to which it moves what it holds
	Args []string         // more arguments, such as "-v"
}

// Dcmqrscp runs dcmtk's dcmqrscp, an archive that stores, finds and moves, until the test ends.
func Dcmqrscp(t testing.TB, o Archive) *Peer {
	t.Helper()
	if o.AET == "" {
		o.AET = "ARCHIVE"
	}
	dir := t.TempDir()
	config, store := filepath.Join(dir, "dcmqrscp.cfg"), filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := start("dcmqrscp", store, func(port int) ([]string, error) {
		err := os.WriteFile(config, []byte(o.config(port, store)), 0o644)
		return append([]string{"-c", config}, o.Args...), err
	})
	p = until(t, "dcmqrscp", p, err)
	p.AET = o.AET
	return p
}

// config is its configuration file.
func (o Archive) config(port int, store string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "NetworkTCPPort = %d\nMaxPDUSize = 131072\nMaxAssociations = 32\nHostTable BEGIN\n", port)
	for title, p := range o.Know {
		fmt.Fprintf(&b, "h%d = (%s, 127.0.0.1, %d)\n", p.Port, title, p.Port)
	}
	fmt.Fprintf(&b, "HostTable END\nVendorTable BEGIN\nVendorTable END\nAETable BEGIN\n%s %s RW (1000, 4gb) ANY\nAETable END\n", o.AET, store)
	return b.String()
}
