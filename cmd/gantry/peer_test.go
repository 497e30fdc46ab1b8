package main

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// wantTyped holds what a command does to an exit code and to texts that it must write.
func wantTyped(t *testing.T, code int, texts []string, args ...string) string {
	t.Helper()
	got, out, errs := typed(t, args...)
	if got != code {
		t.Fatalf("%q: exit code %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(out+errs, text) {
			t.Errorf("%q: no %q in\n%s%s", args, text, out, errs)
		}
	}
	return out
}

func TestEcho(t *testing.T) {
	p := dimsetest.Storescp(t, dimsetest.SCP{})
	wantTyped(t, exitOK, []string{"as STORESCP: success (0x0000) in ", "OFFIS_DCMTK_367", "PDUs of up to 131072 bytes"}, "echo", p.Address(), "--called", "STORESCP")
	var e echoed
	if err := json.Unmarshal([]byte(wantTyped(t, exitOK, nil, "echo", p.Address(), "--json")), &e); err != nil || !e.OK || e.Status != "0000" || e.MaxPDU != 131072 || e.TLS != "" {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestEchoFails says how far it came, and who refused.
func TestEchoFails(t *testing.T) {
	refusing := dimsetest.Storescp(t, dimsetest.SCP{Args: []string{"--refuse"}})
	wantTyped(t, exitFailed, []string{"association rejected", "no reason given"}, "echo", refusing.Address())
	aborting := dimsetest.Storescp(t, dimsetest.SCP{Args: []string{"--abort-after"}})
	wantTyped(t, exitOK, nil, "echo", aborting.Address())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := l.Addr().String()
	wantTyped(t, exitFailed, []string{"no answer came"}, "echo", silent, "--timeout", "200ms")
	l.Close()
	wantTyped(t, exitFailed, []string{"no connection", "refused"}, "echo", silent)
	for _, args := range [][]string{
		{"echo"}, {"echo", "localhost"}, {"echo", ":104"}, {"echo", silent, "--called", strings.Repeat("A", 17)}, {"echo", silent, "--calling", ""},
		{"echo", silent, "--timeout", "0s"}, {"echo", silent, "--tls-cert", "x"}, {"echo", silent, "--tls-ca", "no-such-file"}, {"echo", silent, "--tls-cert", "x", "--tls-key", "y"},
	} {
		wantTyped(t, exitUsage, nil, args...)
	}
}

func TestEchoTLS(t *testing.T) {
	a, b := dimsetest.NewAuthority(t), dimsetest.NewAuthority(t)
	server, ours := a.Issue(t, "peer"), a.Issue(t, "ours")
	p := dimsetest.Storescp(t, dimsetest.SCP{TLS: &server})
	show := []string{"echo", p.Address(), "--tls-cert", ours.Cert, "--tls-key", ours.Key}
	wantTyped(t, exitOK, []string{"success", "TLS 1."}, slices.Concat(show, []string{"--tls-ca", ours.CA})...)
	wantTyped(t, exitFailed, []string{"no TLS"}, slices.Concat(show, []string{"--tls-ca", b.File})...)
	wantTyped(t, exitFailed, []string{"no TLS"}, slices.Concat(show, []string{"--tls-ca", ours.CA, "--tls-name", "pacs.example"})...)
	wantTyped(t, exitFailed, nil, "echo", p.Address(), "--timeout", "2s")
	wantTyped(t, exitUsage, []string{"no certificate"}, slices.Concat(show, []string{"--tls-ca", ours.Key})...)
}

// TestPrintable keeps what peers send from ruling a terminal.
func TestPrintable(t *testing.T) {
	if got := printable("Müller\x1b[2J\t日本\u202e\u009b"); got != "Müller?[2J?日本??" {
		t.Errorf("%q", got)
	}
}
