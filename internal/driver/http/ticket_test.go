package http

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The examples of RFC 6901 section 5, as far as they lead to a word.
func TestPointers(t *testing.T) {
	t.Parallel()
	const doc = `{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8,"t":true,"f":false,"n":null,"o":{},"e":""}`
	v, err := small(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	for pointer, want := range map[string]string{
		"/foo/0": "bar", "/foo/1": "baz", "/": "0", "/a~1b": "1", "/c%d": "2", "/e^f": "3", "/g|h": "4", `/i\j`: "5", `/k"l`: "6", "/ ": "7", "/m~0n": "8",
		"/t": "true", "/f": "false",
	} {
		if got, ok := word(v, pointer); !ok || got != want {
			t.Errorf("%s: %q, %t", pointer, got, ok)
		}
	}
	for _, pointer := range []string{"/foo", "/foo/2", "/foo/-", "/foo/-1", "/foo/x", "/foo/99999999999999999999", "/foo/0/x", "/x", "/n", "/o", "/o/x", "/e", "/m~n/x"} {
		if got, ok := word(v, pointer); ok {
			t.Errorf("%s: %q", pointer, got)
		}
	}
	huge, err := small(strings.NewReader(`{"id":123456789012345678901234567890}`))
	if got, _ := word(huge, "/id"); err != nil || got != "123456789012345678901234567890" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzTicket: whatever a service says, a ticket that comes of it leads to the processor's target and back to
// itself.
func FuzzTicket(f *testing.F) {
	for _, s := range []string{"/a", "a?b#c", "//h/x", "http://127.0.0.1:9/x", "http://127.0.0.1:9//x", "HTTP://127.0.0.1:9", "..", "%2e%2e", "/a%2Fb?%", "?", "\\\\h\\x", "http:x", "//127.0.0.1:9/;x"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, ref string, id bool) {
		c := patient(func(a *AsyncConfig) {
			if a.Ticket = "/id"; id {
				a.TicketURL = "/status/{id}"
			}
		})
		c.URL = "http://127.0.0.1:9/v1/jobs?x"
		p := openAt(t, c)
		ticket, err := p.named(ref)
		if err != nil {
			if _, own := err.(*gantry.Error); !own || len(ref) > 8 && strings.Contains(err.Error(), ref) {
				t.Errorf("%q: %v", ref, err)
			}
			return
		}
		u, err := p.at(ticket)
		switch {
		case err != nil:
			t.Errorf("%q became the ticket %q: %v", ref, ticket, err)
		case u.Host != "127.0.0.1:9" || u.Scheme != "http" || u.User != nil:
			t.Errorf("%q leads to %s", ref, u)
		case u.RequestURI() != ticket || len(ticket) > maxTicket:
			t.Errorf("%q became the ticket %q, which asks for %q", ref, ticket, u.RequestURI())
		}
	})
}

// FuzzJobState: no answer about a job makes anything panic, and none says two things.
func FuzzJobState(f *testing.F) {
	for _, s := range []string{`{"status":"done"}`, `{"status":["done"]}`, `{"status":1e999}`, `[[[`, `{"status":"a","status":"failed"}`, "\xff", ""} {
		f.Add([]byte(s))
	}
	c := AsyncConfig{Status: "/status"}.withDefaults()
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := small(strings.NewReader(string(b)))
		if err != nil {
			if gantry.KindOf(err) != gantry.BadResponse {
				t.Errorf("%v (%s)", err, gantry.KindOf(err))
			}
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q was taken", b)
		}
		if done, err := c.stateOf(v); done && err != nil {
			t.Errorf("%q is done, and %v", b, err)
		}
	})
}
