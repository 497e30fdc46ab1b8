package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// use is a target with what pipelines call it.
type use struct {
	gantry.Target
	names    []string
	writable bool
}

// targets looks whether everything that the pipelines name can be reached. Nothing is sent but what
// opening a connection takes.
func targets(ctx context.Context, pipelines []*gantry.Pipeline) []Finding {
	found := make([]Finding, 0, len(pipelines))
	for _, u := range uses(pipelines) {
		found = append(found, look(ctx, u))
	}
	return found
}

// uses lists the targets of pipelines, each once, in the order of their keys.
func uses(pipelines []*gantry.Pipeline) []use {
	by := map[string]*use{}
	note := func(p *gantry.Pipeline, e gantry.Endpoint, role string) {
		t, ok := e.Config.(gantry.Targeted)
		if !ok || t.Target().Scheme == "upload" { // the process itself is asked there
			return
		}
		all := []gantry.Target{t.Target()}
		if r, ok := e.Config.(gantry.Reaching); ok {
			for _, x := range r.Further() {
				all = append(all, x.Target)
			}
		}
		for _, at := range all {
			u := by[at.Key()]
			if u == nil {
				u = &use{Target: at}
				by[at.Key()] = u
			}
			u.names = append(u.names, strings.TrimSpace(role+" "+e.Name)+" of "+p.Name)
			u.writable = u.writable || role == "sink"
		}
	}
	for _, p := range pipelines {
		for _, e := range p.Sources {
			note(p, e, "source")
		}
		for _, x := range p.Processors {
			note(p, x.Endpoint, "processor")
		}
		for _, e := range p.Sinks {
			note(p, e, "sink")
		}
		if c := p.Collect; c != nil && c.Expect != nil {
			note(p, c.Expect.Endpoint, "archive")
		}
	}
	var out []use
	for _, u := range by {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b use) int {
		if a.Key() < b.Key() {
			return -1
		}
		return 1
	})
	return out
}

func look(ctx context.Context, u use) Finding {
	check := "target " + u.Key()
	advice := fmt.Sprintf("it is %s; look whether it runs and whether this machine may reach it", u.names[0])
	if u.Scheme == "dir" {
		return folder(check, u)
	}
	began := time.Now()
	if err := knock(ctx, u.Target); err != nil {
		return bad(check, err.Error(), advice)
	}
	return well(check, fmt.Sprintf("a connection takes %s", time.Since(began).Round(10*time.Microsecond)))
}

func folder(check string, u use) Finding {
	mode, verb := uint32(unix.R_OK|unix.X_OK), "read"
	if u.writable {
		mode, verb = unix.W_OK|unix.X_OK, "written to"
	}
	at := u.Host
	if u.writable {
		at = existing(at) // a sink makes its folder
	}
	info, err := os.Stat(at)
	switch {
	case err != nil:
		return bad(check, "the folder is not there", "make it; it is "+u.names[0])
	case !info.IsDir():
		return bad(check, "it is no folder", "choose another; it is "+u.names[0])
	case unix.Access(at, mode) != nil:
		return bad(check, "it cannot be "+verb, "give the user that runs gantry the right to; it is "+u.names[0])
	}
	return well(check, "it can be "+verb)
}

// knock opens a connection by the way out that calls take, with TLS where they would use it, and
// closes it.
func knock(ctx context.Context, t gantry.Target) error {
	ctx, cancel := context.WithTimeout(gate.WithMeter(ctx, gate.NewMeter(time.Now)), checkTime)
	defer cancel()
	port := t.Port
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.Scheme]
	}
	c, err := gate.NewEgress(t, gate.Policy{}).DialContext(ctx, "tcp", net.JoinHostPort(t.Host, port))
	if err != nil {
		return err
	}
	defer c.Close()
	if t.Scheme != "https" {
		return nil
	}
	if err := tls.Client(c, &tls.Config{ServerName: t.Host, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx); err != nil {
		return gantry.Errorf(gantry.Denied, gate.CodeTLS, "dial %s: the TLS handshake or the peer's certificate was not accepted", t.Key())
	}
	return nil
}
