package http

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// AsyncConfig is what a pipeline file says about a service that answers later. Its fields have no
// default tags: without a deadline there is no such block.
type AsyncConfig struct {
	Deadline       time.Duration    `yaml:"deadline" required:"true" min:"1s" doc:"From the request to the answer."`
	Poll           time.Duration    `yaml:"poll" min:"10ms" doc:"Between two looks at one job, unless the service says Retry-After. Without it jobs are never looked at; then there is callback."`
	Callback       string           `yaml:"callback" one:"hmac" doc:"hmac: the service may send its answer to an address that it is given, signed with secret."`
	Secret         gantry.SecretRef `yaml:"secret" doc:"A reference to what callbacks are signed with."`
	CallbackHeader string           `yaml:"callback_header" doc:"The header of the request that says where callbacks go: Callback-Url without it."`
	Heartbeat      time.Duration    `yaml:"heartbeat" min:"10ms" doc:"The longest silence of a service that is at work: neither an answer to a look nor a callback. Without it none is too long."`
	Ticket         string           `yaml:"ticket" doc:"Where the service says what the job is called: the name of a header (Location without it), or a JSON pointer into the answer (/id)."`
	TicketURL      string           `yaml:"ticket_url" doc:"The path of a job where ticket gives an id and not a URL: /jobs/{id}."`
	Status         string           `yaml:"status" doc:"A JSON pointer to the state of a job in what its URL answers. Without it, 202 says that it is at work, and any other success that it is done."`
	Done           []string         `yaml:"done" doc:"The states of a job whose answer is there; without it done, succeeded, successful, success, completed, complete, finished and ready. Capitals are not told from small letters."`
	Failed         []string         `yaml:"failed" doc:"The states of a job that the service gave up for good; without it failed, failure, error, canceled, cancelled, dismissed and aborted. Every other state is one of a job at work."`
	Again          []string         `yaml:"again" doc:"The states of a job that the service gave up, and that may go better if it is sent again; without it timed_out, timeout, expired, preempted and interrupted."`
	Result         string           `yaml:"result" doc:"Where the answer of a job is that is done: {ticket}/results is below its URL, and a JSON pointer points to a URL in what the job's URL answers. Without it, at the job's URL or where that redirects to."`
	Cancel         bool             `yaml:"cancel" doc:"Whether a job that nobody waits for any more is deleted at its URL."`
}

const (
	locationHeader = "Location"
	callbackHeader = "Callback-Url"
	callbackHMAC   = "hmac"
	idHole         = "{id}"
	ticketHole     = "{ticket}"
	maxPointer     = 256 // bytes
)

// withDefaults fills in what was not said. A word that was said means what it was said to mean.
func (c AsyncConfig) withDefaults() AsyncConfig {
	c.CallbackHeader, c.Ticket = cmp.Or(c.CallbackHeader, callbackHeader), cmp.Or(c.Ticket, locationHeader)
	said := slices.Concat(c.Done, c.Failed, c.Again)
	fill := func(words *[]string, usual ...string) {
		if len(*words) == 0 {
			*words = slices.DeleteFunc(usual, func(u string) bool {
				return slices.ContainsFunc(said, func(w string) bool { return strings.EqualFold(u, w) })
			})
		}
	}
	fill(&c.Done, "done", "succeeded", "successful", "success", "completed", "complete", "finished", "ready")
	fill(&c.Failed, "failed", "failure", "error", "canceled", "cancelled", "dismissed", "aborted")
	fill(&c.Again, "timed_out", "timeout", "expired", "preempted", "interrupted")
	return c
}

func isPointer(s string) bool { return strings.HasPrefix(s, "/") }

// Check lists what is wrong with the block; nothing if it is not there.
func (c AsyncConfig) Check() []gantry.FieldProblem {
	if c.absent() {
		return nil
	}
	var found gantry.FieldProblems
	if c.Deadline <= 0 {
		found.Add("deadline", "is missing")
	}
	if c.Poll <= 0 && c.Callback == "" {
		found.Add("", "neither poll nor callback is there, so no answer could ever be seen")
	}
	found.Add("callback", checkOne(c.Callback, "", callbackHMAC))
	found.Add("secret", c.checkSecret())
	found.Add("heartbeat", c.checkHeartbeat())
	if !isPointer(c.Ticket) && c.Ticket != "" && !gantry.IsToken(c.Ticket) {
		found.Add("ticket", "is neither the name of a header nor a JSON pointer")
	} else if isPointer(c.Ticket) {
		found.Add("ticket", checkPointer(c.Ticket))
	}
	if c.TicketURL != "" && (!strings.HasPrefix(c.TicketURL, "/") || strings.Count(c.TicketURL, idHole) != 1 || !isPath(strings.Replace(c.TicketURL, idHole, "", 1))) {
		found.Add("ticket_url", "is no path with one {id} in it")
	}
	if c.Status != "" {
		found.Add("status", checkPointer(c.Status))
	}
	found.Add("result", c.checkResult())
	return append(found, c.checkWords()...)
}

// absent tells whether nothing was said.
func (c AsyncConfig) absent() bool {
	return c.Deadline == 0 && c.Poll == 0 && c.Heartbeat == 0 && !c.Cancel && len(c.Done)+len(c.Failed)+len(c.Again) == 0 &&
		c.Callback+string(c.Secret)+c.CallbackHeader+c.Ticket+c.TicketURL+c.Status+c.Result == ""
}

// checkSecret says what is wrong with the secret, which is not quoted.
func (c AsyncConfig) checkSecret() string {
	s := string(c.Secret)
	switch {
	case s == "" && c.Callback != "":
		return "is missing: callbacks are signed with it"
	case s != "" && c.Callback == "":
		return "means nothing without callback"
	case s != "" && !(strings.HasSuffix(s, "}") && (strings.HasPrefix(s, "${env:") || strings.HasPrefix(s, "${file:/"))):
		return "is no reference such as ${env:NAME} or ${file:/path}"
	}
	return ""
}

func (c AsyncConfig) checkHeartbeat() string {
	switch {
	case c.Heartbeat > 0 && c.Heartbeat < c.Poll:
		return "is shorter than poll, so every job would be taken for dead"
	case c.Heartbeat > 0 && c.Heartbeat > c.Deadline:
		return "is longer than deadline"
	}
	return ""
}

func (c AsyncConfig) checkResult() string {
	below, ok := strings.CutPrefix(c.Result, ticketHole)
	switch {
	case c.Result == "", ok && strings.HasPrefix(below, "/") && isPath(below):
		return ""
	case ok, !isPointer(c.Result):
		return "is neither a JSON pointer nor {ticket} with a path behind it"
	}
	return checkPointer(c.Result)
}

// checkWords says which state means two things, or means anything though nobody looks for it.
func (c AsyncConfig) checkWords() []gantry.FieldProblem {
	var found gantry.FieldProblems
	seen := map[string]bool{}
	for _, list := range []struct {
		key   string
		words []string
	}{{"done", c.Done}, {"failed", c.Failed}, {"again", c.Again}} {
		if len(list.words) > 0 && c.Status == "" {
			found.Add(list.key, "means nothing without status")
		}
		for _, w := range list.words {
			w = strings.ToLower(w)
			if w == "" || seen[w] {
				found.Add(list.key, fmt.Sprintf("holds %q, which is empty or means something already", w))
			}
			seen[w] = true
		}
	}
	return found
}

// isPath tells what can stand in the path of a URL as it is (RFC 3986 section 3.3).
func isPath(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%{}\\\"<>^`|", r) })
}

// checkPointer says what is wrong with a JSON pointer (RFC 6901 section 3).
func checkPointer(s string) string {
	bare := strings.NewReplacer("~0", "", "~1", "").Replace(s)
	if !isPointer(s) || len(s) > maxPointer || strings.Contains(bare, "~") {
		return fmt.Sprintf("is no JSON pointer such as /status, of at most %d bytes", maxPointer)
	}
	return ""
}

// checkCallbackHeader says what is wrong with the header of the callback's address.
func (c ProcessorConfig) checkCallbackHeader() string {
	name := c.Async.CallbackHeader
	key := http.CanonicalHeaderKey(name)
	switch {
	case name == "":
		return ""
	case c.Async.Callback == "":
		return "means nothing without callback"
	case !gantry.IsToken(name):
		return fmt.Sprintf("%q is no name of a header", name)
	case gantry.IsWireHeader(key), slices.Contains([]string{"Authorization", "Accept", "User-Agent", "Prefer", http.CanonicalHeaderKey(cmp.Or(c.KeyHeader, defaultKeyHeader))}, key):
		return key + ": has another meaning"
	}
	for other := range c.Headers {
		if http.CanonicalHeaderKey(other) == key {
			return key + ": is one of headers, too"
		}
	}
	return ""
}

// Deferral says how answers are waited for; nil if they always come at once.
func (p *processor) Deferral() *gantry.Deferral {
	a := p.config.Async
	if a.Deadline <= 0 {
		return nil
	}
	return &gantry.Deferral{Poll: a.Poll, Callback: a.Secret, Deadline: a.Deadline, Heartbeat: a.Heartbeat}
}
