package http

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var _ gantry.Deferring = (*processor)(nil)

// Submit posts the items as Process does, and asks for an answer later (RFC 7240 section 4.1). What is taken
// for later is a 202, or a 200 or 201 that says what the job is called; any other answer goes to req.Receive.
func (p *processor) Submit(ctx context.Context, req *gantry.Request, callback string) (gantry.Ticket, error) {
	if p.Deferral() == nil {
		return gantry.Ticket{}, p.Process(ctx, req)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := p.open(ctx, req)
	if err != nil {
		return gantry.Ticket{}, err
	}
	defer in.Close()
	out, err := p.request(ctx, req, in)
	if err != nil {
		return gantry.Ticket{}, err
	}
	if out.Header.Get("Prefer") == "" {
		out.Header.Set("Prefer", "respond-async")
	}
	callback = strings.TrimSpace(callback)
	if p.config.Async.Callback == "" {
		callback = ""
	}
	if callback != "" {
		out.Header.Set(p.config.Async.CallbackHeader, callback)
	}
	resp, err := exchange(ctx, p.rt, out, in)
	if err != nil {
		return gantry.Ticket{}, err
	}
	defer resp.Body.Close()
	id, err := p.ticketOf(resp, &answerBody{ctx: ctx, r: resp.Body}, callback != "")
	switch {
	case err != nil:
		return gantry.Ticket{}, err
	case id == "":
		return gantry.Ticket{}, p.answer(ctx, cancel, resp, in.arrived, req)
	}
	if err := in.arrived(ctx); err != nil {
		return gantry.Ticket{}, err
	}
	p.forget(cancel, resp)
	return gantry.Ticket{ID: id, After: retryAfter(resp.Header.Get("Retry-After"), p.now())}, nil
}

// Poll looks at a job's URL, for 30 seconds at most. A job without one is at work until its service calls.
func (p *processor) Poll(ctx context.Context, t gantry.Ticket) (gantry.Progress, error) {
	if t.ID == uncalled {
		return gantry.Progress{}, nil
	}
	ctx, cancel := context.WithTimeout(gantry.AllowElsewhere(ctx), p.look)
	defer cancel()
	u, err := p.at(t.ID)
	if err != nil {
		return gantry.Progress{}, err
	}
	resp, err := p.ask(ctx, http.MethodGet, u, p.aboutJobs())
	if err != nil {
		return gantry.Progress{}, err
	}
	defer resp.Body.Close()
	x := gantry.Progress{After: retryAfter(resp.Header.Get("Retry-After"), p.now())}
	if elsewhere(resp.StatusCode) {
		_, err := p.refer(resp.Header.Get("Location"))
		p.forget(cancel, resp)
		return gantry.Progress{Ready: err == nil}, err
	}
	if p.config.Async.Status == "" { // a success has the answer itself for a body, which is Collect's
		err := p.refused(cancel, resp)
		if gantry.CodeOf(err) == CodeNotReady {
			return x, nil
		}
		return gantry.Progress{Ready: err == nil}, err
	}
	v, err := p.said(ctx, cancel, resp)
	if err == nil {
		x.Ready, err = p.config.Async.stateOf(v)
	}
	if x.Ready || err != nil {
		x.After = 0
	}
	return x, err
}

// Collect fetches the answer of a job. That is one request, or two where the job's URL says or redirects to
// where the answer is.
func (p *processor) Collect(ctx context.Context, t gantry.Ticket, req *gantry.Request) error {
	ctx, cancel := context.WithCancel(gantry.AllowElsewhere(ctx))
	defer cancel()
	u, err := p.resultURL(ctx, cancel, t)
	if err != nil {
		return err
	}
	resp, err := p.fetch(ctx, u)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := p.refused(cancel, resp); err != nil {
		return err
	}
	return p.answer(ctx, cancel, resp, nil, req)
}

// fetch asks for an answer at a job's URL, and where that says that it is elsewhere, there.
func (p *processor) fetch(ctx context.Context, u *url.URL) (*http.Response, error) {
	resp, err := p.ask(ctx, http.MethodGet, u, p.config.accept())
	if err != nil || !elsewhere(resp.StatusCode) || p.config.Async.Result != "" {
		return resp, err
	}
	resp.Body.Close() // one request of a call comes after the other
	id, err := p.refer(resp.Header.Get("Location"))
	if err != nil {
		return nil, err
	}
	if u, err = p.at(id); err != nil {
		return nil, err
	}
	return p.ask(ctx, http.MethodGet, u, p.config.accept())
}

// resultURL is where the answer of a job is. Where the job's URL says it, that is asked.
func (p *processor) resultURL(ctx context.Context, cancel func(), t gantry.Ticket) (*url.URL, error) {
	u, err := p.at(t.ID)
	result := p.config.Async.Result
	if err != nil || result == "" {
		return u, err
	}
	if below, ok := strings.CutPrefix(result, ticketHole); ok {
		escaped := u.EscapedPath() + below
		u.Path, u.RawPath = u.Path+below, escaped
		return u, nil
	}
	resp, err := p.ask(ctx, http.MethodGet, u, p.aboutJobs())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	v, err := p.said(ctx, cancel, resp)
	if err != nil {
		return nil, err
	}
	ref, ok := word(v, result)
	if !ok {
		return nil, gantry.Errorf(gantry.BadResponse, CodeNoState, "read answer: it does not say where the job's answer is")
	}
	id, err := p.refer(ref)
	if err != nil {
		return nil, err
	}
	return p.at(id)
}

// Unpack takes the body of a callback as an answer. One that says that the job failed is the error of that.
func (p *processor) Unpack(ctx context.Context, cb gantry.Callback, req *gantry.Request) error {
	if cb.Status == gantry.CallbackRunning {
		return gantry.Errorf(gantry.Transient, CodeNotReady, "read callback: the job is at work")
	}
	body, err := cb.Body(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	resp := &http.Response{StatusCode: http.StatusOK, Header: cb.Header, ContentLength: -1, Body: body}
	if cb.Status == gantry.CallbackFailed {
		if p.config.Async.Status != "" {
			v, _ := p.said(ctx, func() {}, resp)
			if _, err := p.config.Async.stateOf(v); gantry.CodeOf(err) == gantry.CodeJobFailed {
				return err
			}
		}
		return jobFailed(gantry.Permanent)
	}
	return p.answer(ctx, func() {}, resp, nil, req)
}

// Abandon deletes a job, where the service has that.
func (p *processor) Abandon(ctx context.Context, t gantry.Ticket) error {
	if !p.config.Async.Cancel || t.ID == uncalled {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.look)
	defer cancel()
	u, err := p.at(t.ID)
	if err != nil {
		return err
	}
	resp, err := p.ask(ctx, http.MethodDelete, u, gantry.MediaJSON)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	p.forget(cancel, resp)
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return nil
	}
	return refusal("delete", resp, p.now())
}

// aboutJobs is the Accept header of a look at a job's URL, which may answer with the result itself.
func (p *processor) aboutJobs() string {
	if p.config.Async.Status != "" || isPointer(p.config.Async.Result) {
		return gantry.MediaJSON
	}
	return p.config.accept()
}

// ask makes a request without a body.
func (p *processor) ask(ctx context.Context, method string, u *url.URL, accept string) (*http.Response, error) {
	out, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "ask for a job: its URL makes no request")
	}
	out.Header = p.header.Clone()
	out.Header.Set("Accept", accept)
	resp, err := p.rt.RoundTrip(out)
	if err != nil {
		return nil, classify(ctx, "ask for a job", err)
	}
	return resp, nil
}

// elsewhere tells a status that says where the answer is (RFC 9110 section 15.4).
func elsewhere(status int) bool {
	return status == http.StatusFound || status == http.StatusSeeOther
}

// refused is the error of a status that is no success for a job that is done.
func (p *processor) refused(cancel func(), resp *http.Response) error {
	err := refusal("ask for a job", resp, p.now())
	switch resp.StatusCode {
	case http.StatusAccepted:
		err = gantry.Errorf(gantry.Transient, CodeNotReady, "ask for a job: it is at work")
	case http.StatusNotFound, http.StatusGone:
		err = gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "ask for a job: the service knows nothing of it, status %d", resp.StatusCode)
	default:
		if err != nil && gantry.KindOf(err) == gantry.Permanent { // a GET of a URL that the service gave is right: it speaks of what was sent
			err = gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "ask for a job: the service gave it up, status %d", resp.StatusCode)
		}
	}
	if err != nil {
		p.forget(cancel, resp)
	}
	return err
}

// said reads what a URL says of a job. A 202 says as much as a 200.
func (p *processor) said(ctx context.Context, cancel func(), resp *http.Response) (any, error) {
	if resp.StatusCode != http.StatusAccepted {
		if err := p.refused(cancel, resp); err != nil {
			return nil, err
		}
	}
	if err := encoding(resp.Header.Get("Content-Encoding")); err != nil {
		return nil, err
	}
	return small(&answerBody{ctx: ctx, r: resp.Body})
}
