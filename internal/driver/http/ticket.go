package http

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of what a service says of its jobs. Those with no note are BadResponse.
const (
	CodeNoTicket   gantry.Code = "no_ticket"         // it took the request, and said neither what the job is called nor that it may call back
	CodeBadTicket  gantry.Code = "bad_ticket"        // what it said can be no URL, or is over 1 KiB
	CodeUndeclared gantry.Code = "undeclared_target" // a URL of another scheme, host or port than the processor's
	CodeNoState    gantry.Code = "no_state"          // no state where status points to, or no URL where result does
	CodeNotReady               = gantry.CodeNotReady // Transient: the job is at work again after it was done
)

const (
	maxSmall  = 64 << 10 // bytes of what is said of a job
	maxTicket = 1 << 10  // bytes of its path and query
	maxURL    = 4 << 10  // bytes of a URL, with its origin
)

// uncalled is the ID of a ticket of a job that has no URL: its service calls back.
const uncalled = gantry.TicketUncalled

// refer gives the path and query of a URL that a service gave, which may be relative to the processor's.
// What it says is not quoted: it may hold anything.
func (p *processor) refer(ref string) (string, error) {
	u, err := url.Parse(ref)
	if err != nil || ref == "" || len(ref) > maxURL || u.User != nil {
		return "", badTicket()
	}
	u = p.url.ResolveReference(u)
	if u.Opaque != "" || gantry.WebTarget(u.String()) != gantry.WebTarget(p.url.String()) {
		return "", gantry.Errorf(gantry.BadResponse, CodeUndeclared, "read answer: it points to another target than the processor's")
	}
	if id := u.RequestURI(); len(id) <= maxTicket && strings.HasPrefix(id, "/") {
		return id, nil
	}
	return "", badTicket()
}

func badTicket() error {
	return gantry.Errorf(gantry.BadResponse, CodeBadTicket, "read answer: it points to no URL of at most %d bytes", maxTicket)
}

// at is the URL of a path and query on the processor's target. A path may begin with two slashes, so
// this is no relative reference (RFC 3986 section 4.2).
func (p *processor) at(id string) (*url.URL, error) {
	u, err := url.ParseRequestURI(id)
	if err != nil || !strings.HasPrefix(id, "/") || len(id) > maxTicket {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadTicket, "find the job: its ticket is none of this processor's")
	}
	u.Scheme, u.Host = p.url.Scheme, p.url.Host
	return u, nil
}

// named makes a ticket of what a service said that the job is called.
func (p *processor) named(name string) (string, error) {
	if pattern := p.config.Async.TicketURL; pattern != "" {
		if name == "." || name == ".." {
			return "", badTicket()
		}
		name = strings.Replace(pattern, idHole, url.PathEscape(name), 1)
	}
	return p.refer(name)
}

// small reads what is said of a job: one JSON text. Its errors are BadResponse, but for those of r.
func small(r io.Reader) (any, error) {
	b, err := io.ReadAll(io.LimitReader(newJSONReader(r), maxSmall+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSmall {
		return nil, gantry.Errorf(gantry.BadResponse, CodeJSONTooLarge, "read answer: over %d bytes about a job", maxSmall)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, gantry.Errorf(gantry.BadResponse, CodeBadJSON, "read answer: it is no JSON")
	}
	return v, nil
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// word gives the text, number or truth value that a JSON pointer leads to (RFC 6901 section 4).
func word(v any, pointer string) (string, bool) {
	for _, step := range strings.Split(pointer, "/")[1:] {
		switch at := v.(type) {
		case map[string]any:
			v = at[unescape.Replace(step)]
		case []any:
			i, err := strconv.ParseUint(step, 10, 16)
			if err != nil || i >= uint64(len(at)) {
				return "", false
			}
			v = at[i]
		default:
			return "", false
		}
	}
	switch v := v.(type) {
	case string:
		return v, v != ""
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// stateOf reads the state of a job: whether it is done, and the error of one that was given up.
func (c AsyncConfig) stateOf(v any) (done bool, err error) {
	state, ok := word(v, c.Status)
	is := func(s string) bool { return strings.EqualFold(s, state) }
	switch {
	case !ok:
		return false, gantry.Errorf(gantry.BadResponse, CodeNoState, "read answer: there is no state of the job in it")
	case slices.ContainsFunc(c.Done, is):
		return true, nil
	case slices.ContainsFunc(c.Failed, is):
		return false, jobFailed(gantry.Permanent)
	case slices.ContainsFunc(c.Again, is):
		return false, jobFailed(gantry.Transient)
	}
	return false, nil
}

func jobFailed(kind gantry.Kind) error {
	return gantry.Errorf(kind, gantry.CodeJobFailed, "wait for the answer: the service gave the job up")
}

// ticketOf finds the ticket in an answer to a request. Without one, the answer is the result and is left as
// it was. callback tells whether the service was told where to call back to.
func (p *processor) ticketOf(resp *http.Response, r io.Reader, callback bool) (string, error) {
	a := p.config.Async
	later := resp.StatusCode == http.StatusAccepted
	if !later && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return "", nil
	}
	name, err := "", error(nil)
	switch {
	case isPointer(a.Ticket):
		name, err = pointed(resp, r, a.Ticket)
	case resp.StatusCode != http.StatusOK:
		name = resp.Header.Get(a.Ticket)
	}
	switch {
	case err != nil:
		return "", err
	case name != "":
		return p.named(name)
	case !later:
		return "", nil
	case callback:
		return uncalled, nil
	}
	return "", gantry.Errorf(gantry.BadResponse, CodeNoTicket, "read answer: the request was taken, but nothing says what the job is called")
}

// pointed reads the name of a job out of a JSON answer. An answer that names none, and so may be the
// result, can be read again from its beginning.
func pointed(resp *http.Response, r io.Reader, pointer string) (string, error) {
	later := resp.StatusCode == http.StatusAccepted
	if !later && !isJSON(resp.Header.Get("Content-Type")) {
		return "", nil
	}
	if err := encoding(resp.Header.Get("Content-Encoding")); err != nil {
		return "", err
	}
	var head bytes.Buffer
	v, err := small(io.TeeReader(r, &head))
	if later && err != nil {
		return "", err
	}
	name, _ := word(v, pointer)
	if name == "" {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&head, resp.Body), resp.Body}
	}
	return name, nil
}

// isJSON tells a media type of JSON (RFC 6839 section 3.1).
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return media == gantry.MediaJSON || strings.HasSuffix(media, "+json")
}
