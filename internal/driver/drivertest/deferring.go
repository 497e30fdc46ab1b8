package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxTicket is the longest id of a ticket in bytes.
const maxTicket = 1 << 10

// Deferring runs what every processor must do whose service may answer later: all that a Processor must, its
// answers being waited for, and what is about jobs. open starts a fake service of the driver's protocol that
// asks j what to say, and gives a function that makes drivers which send one item there and delete jobs that are abandoned.
func Deferring(t *testing.T, open func(t *testing.T, j *Jobs) (driver func() gantry.Deferring)) {
	t.Helper()
	t.Run("as a processor", func(t *testing.T) {
		suite(t, func(t *testing.T) served {
			j := newJobs()
			return served{j.Model, waiting{open(t, j)()}}
		}, processorCases())
	})
	suite(t, func(t *testing.T) deferred {
		j := newJobs()
		driver := open(t, j)
		return deferred{j, driver(), driver()}
	}, deferringCases())
}

// waiting is a processor that waits for answers.
type waiting struct{ gantry.Deferring }

// Process sends a request and polls until the answer is there.
func (w waiting) Process(ctx context.Context, req *gantry.Request) error {
	ticket, err := w.Submit(ctx, req, "")
	if err != nil || ticket.ID == "" {
		return err
	}
	for {
		switch x, err := w.Poll(ctx, ticket); {
		case err != nil:
			return err
		case x.Ready:
			return w.Collect(ctx, ticket, req)
		}
	}
}

// deferred is a driver, another one as in a process that goes on with its work, and the jobs behind both.
type deferred struct {
	jobs           *Jobs
	driver, second gantry.Deferring
}

func deferringCases() []testCase[deferred] {
	cases := []testCase[deferred]{
		{"says how it waits", deferringSays},
		{"sends now and takes the answer later", deferringRound},
		{"takes an answer that comes at once", deferringAtOnce},
		{"goes on in another process", deferringElsewhere},
		{"keeps jobs apart", deferringApart},
		{"hears how long to wait", deferringPatient},
		{"refuses a ticket that is too long", deferringLong},
		{"tells a job that was given up", func(ctx context.Context, d deferred) error {
			return d.ends(ctx, GivenUp, gantry.Permanent, gantry.CodeJobFailed)
		}},
		{"tells a job that is unknown", func(ctx context.Context, d deferred) error {
			return d.ends(ctx, Unknown, gantry.NotFound, gantry.CodeJobLost)
		}},
		{"finds an answer gone", deferringGone},
		{"ends a look at its deadline", deferringLate},
		{"ends a look when cancelled", deferringCancelled},
		{"abandons a job", deferringAbandons},
		{"unpacks an answer", deferringUnpacks},
		{"hands on an error of receiving later", deferringUnreceived},
	}
	for fault, kind := range map[Fault]gantry.Kind{Busy: gantry.Unavailable, Broken: gantry.Transient, Denying: gantry.Denied, Resetting: gantry.Transient} {
		cases = append(cases,
			testCase[deferred]{"classifies a look: " + string(fault), func(ctx context.Context, d deferred) error { return d.looks(ctx, fault, kind) }},
			testCase[deferred]{"classifies a fetch: " + string(fault), func(ctx context.Context, d deferred) error { return d.fetches(ctx, fault, kind) }})
	}
	return cases
}

// submit sends a request of one item and gives its ticket.
func (d deferred) submit(ctx context.Context, key string, body []byte) (gantry.Ticket, *posting, error) {
	p := post(key, body, int64(len(body)))
	ticket, err := d.driver.Submit(ctx, &p.Request, "")
	if err == nil {
		err = p.allClosed()
	}
	return ticket, p, errors.Join(err, wantDiscreet(err))
}

// job submits a request that is answered later.
func (d deferred) job(ctx context.Context) (gantry.Ticket, *posting, error) {
	ticket, p, err := d.submit(ctx, "k", []byte("x"))
	if err == nil && ticket.ID == "" {
		err = errors.New("an answer that comes later gave no ticket")
	}
	return ticket, p, err
}

func deferringSays(_ context.Context, d deferred) error {
	if x := d.driver.Deferral(); x == nil || x.Deadline <= 0 || x.Poll <= 0 && x.Callback == "" {
		return fmt.Errorf("it waits as %+v", x)
	}
	return nil
}

func deferringRound(ctx context.Context, d deferred) error {
	for i, n := range []int{1, 1000, 3<<20 + 1} {
		in, out := random(n, 1), random(n, 2)
		d.jobs.set(Answer{Media: gantry.MediaPNG, Body: out})
		ticket, p, err := d.submit(ctx, fmt.Sprint("key-", i), in)
		switch {
		case err != nil:
			return err
		case ticket.ID == "" || len(ticket.ID) > maxTicket || ticket.After != 0:
			return fmt.Errorf("the ticket is %+v", ticket)
		case len(p.received) != 0:
			return errors.New("an answer that was not there yet was received")
		}
		for look, ready := range []bool{false, true} {
			if x, err := d.driver.Poll(ctx, ticket); err != nil || x != (gantry.Progress{Ready: ready}) {
				return fmt.Errorf("look %d: %+v, %v", look, x, err)
			}
		}
		if err := errors.Join(d.driver.Collect(ctx, ticket, &p.Request), p.want(gantry.MediaPNG, out), p.allClosed()); err != nil {
			return err
		}
		came := d.jobs.requests()
		if len(came) != i+1 || came[i].Key != p.Key || len(came[i].Items) != 1 || !bytes.Equal(came[i].Items[0].Body, in) {
			return fmt.Errorf("%d bytes: %d requests came, or another one", n, len(came))
		}
	}
	return nil
}

func deferringAtOnce(ctx context.Context, d deferred) error {
	d.jobs.change(func(j *Jobs) { j.atOnce = true })
	ticket, p, err := d.submit(ctx, "k", []byte("x"))
	if ticket != (gantry.Ticket{}) {
		return fmt.Errorf("an answer that came gave the ticket %+v", ticket)
	}
	return errors.Join(err, p.want(gantry.MediaPNG, []byte("answer to x")))
}

func deferringElsewhere(ctx context.Context, d deferred) error {
	ticket, p, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.say(Look{State: Ended})
	if x, err := d.second.Poll(ctx, gantry.Ticket{ID: ticket.ID}); err != nil || !x.Ready {
		return fmt.Errorf("another process sees %+v, %w", x, err)
	}
	err = d.second.Collect(ctx, gantry.Ticket{ID: ticket.ID}, &p.Request)
	return errors.Join(err, p.want(gantry.MediaPNG, []byte("answer to x")))
}

func deferringApart(ctx context.Context, d deferred) error {
	d.jobs.say(Look{State: Ended})
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			in := random(20_000, uint64(i))
			ticket, p, err := d.submit(ctx, fmt.Sprint(i), in)
			if err == nil {
				_, err = d.driver.Poll(ctx, ticket)
			}
			if err == nil {
				err = d.driver.Collect(ctx, ticket, &p.Request)
			}
			errs[i] = errors.Join(err, p.want(gantry.MediaPNG, append([]byte("answer to "), in...)))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func deferringPatient(ctx context.Context, d deferred) error {
	d.jobs.change(func(j *Jobs) { j.after = 9 * time.Second })
	d.jobs.say(Look{State: AtWork, After: 7 * time.Second})
	ticket, _, err := d.job(ctx)
	if err != nil {
		return err
	}
	x, err := d.driver.Poll(ctx, ticket)
	if err != nil || ticket.After != 9*time.Second || x != (gantry.Progress{After: 7 * time.Second}) {
		return fmt.Errorf("asked to wait 9 s and then 7 s, it says %s and %+v, %v", ticket.After, x, err)
	}
	return nil
}

func deferringLong(ctx context.Context, d deferred) error {
	for _, n := range []int{maxTicket + 1, 20_000} {
		d.jobs.change(func(j *Jobs) { j.name = func(int) string { return strings.Repeat("x", n-len(private)) + private } })
		ticket, _, err := d.submit(ctx, "k", []byte("x"))
		if err := wantKind(err, gantry.BadResponse, ""); err != nil || ticket != (gantry.Ticket{}) {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
	}
	return nil
}

// ends: a job that brings nothing is told from a look that failed.
func (d deferred) ends(ctx context.Context, state JobState, kind gantry.Kind, code gantry.Code) error {
	ticket, _, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.say(Look{State: state})
	_, err = d.driver.Poll(ctx, ticket)
	return wantKind(err, kind, code)
}

func deferringGone(ctx context.Context, d deferred) error {
	ticket, p, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.Drop(d.jobs.name(1))
	return errors.Join(wantKind(d.driver.Collect(ctx, ticket, &p.Request), gantry.NotFound, gantry.CodeJobLost), p.allClosed())
}

// looks: a look that fails says nothing of the job, and the next one may find it.
func (d deferred) looks(ctx context.Context, fault Fault, kind gantry.Kind) error {
	ticket, _, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.say(Look{Fault: fault}, Look{State: Ended})
	_, err = d.driver.Poll(ctx, ticket)
	if err := wantKind(err, kind, ""); err != nil {
		return err
	}
	if code := gantry.CodeOf(err); code == gantry.CodeJobFailed || code == gantry.CodeJobLost {
		return fmt.Errorf("a look that failed was taken for a job that did: %s", code)
	}
	if x, err := d.driver.Poll(ctx, ticket); err != nil || !x.Ready {
		return fmt.Errorf("the next look: %+v, %w", x, err)
	}
	return nil
}

// fetches: so does a fetch.
func (d deferred) fetches(ctx context.Context, fault Fault, kind gantry.Kind) error {
	ticket, p, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.say(Look{State: Ended})
	wrong := Answer{Fault: fault, Media: gantry.MediaPNG, Body: bytes.Repeat([]byte(private+" "), 1000)}
	d.jobs.change(func(j *Jobs) { j.fetched = wrong })
	err = d.driver.Collect(ctx, ticket, &p.Request)
	if err := wantKind(err, kind, ""); err != nil {
		return err
	}
	d.jobs.change(func(j *Jobs) { j.fetched = Answer{} })
	return errors.Join(d.driver.Collect(ctx, ticket, &p.Request), p.want(gantry.MediaPNG, []byte("answer to x")))
}

func deferringLate(ctx context.Context, d deferred) error {
	ticket, _, err := d.job(ctx)
	if err != nil {
		return err
	}
	d.jobs.say(Look{Fault: Silent})
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = d.driver.Poll(ctx, ticket)
	return wantKind(err, gantry.Timeout, "")
}

func deferringCancelled(ctx context.Context, d deferred) error {
	ticket, p, err := d.job(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := d.driver.Poll(ctx, ticket); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled look gave %w", err)
	}
	if err := d.driver.Collect(ctx, ticket, &p.Request); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled fetch gave %w", err)
	}
	return nil
}

// deferringAbandons: once, and again.
func deferringAbandons(ctx context.Context, d deferred) error {
	ticket, _, err := d.job(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := d.driver.Abandon(ctx, ticket); err != nil {
			return err
		}
	}
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	if len(d.jobs.jobs) != 0 {
		return errors.New("the job is still there")
	}
	return nil
}

// callback makes a callback whose body is counted by p.
func (p *posting) callback(status gantry.CallbackStatus, media string, body []byte) gantry.Callback {
	return gantry.Callback{Header: http.Header{"Content-Type": {media}}, Status: status,
		Body: func(context.Context) (io.ReadCloser, error) { return p.reader(body, nil), nil }}
}

func deferringUnpacks(ctx context.Context, d deferred) error {
	p := post("k", nil, 0)
	body := random(100_000, 1)
	err := d.driver.Unpack(ctx, p.callback(gantry.CallbackDone, gantry.MediaPNG, body), &p.Request)
	if err := errors.Join(err, p.want(gantry.MediaPNG, body), p.allClosed()); err != nil {
		return err
	}
	p = post("k", nil, 0)
	err = d.driver.Unpack(ctx, p.callback(gantry.CallbackFailed, gantry.MediaPNG, []byte(private)), &p.Request)
	if len(p.received) != 0 || len(d.jobs.requests()) != 0 {
		return errors.New("a failure became an output, or something was sent")
	}
	return errors.Join(wantKind(err, gantry.Permanent, gantry.CodeJobFailed), p.allClosed())
}

func deferringUnreceived(ctx context.Context, d deferred) error {
	ticket, p, err := d.job(ctx)
	if err != nil {
		return err
	}
	p.Receive = func(context.Context, string, int64, io.Reader) error { return errWrong }
	return errors.Join(wantOwn(d.driver.Collect(ctx, ticket, &p.Request)),
		wantOwn(d.driver.Unpack(ctx, p.callback(gantry.CallbackDone, gantry.MediaPNG, []byte("x")), &p.Request)), p.allClosed())
}
