package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Processor runs what every processor must do. open starts a fake service of the driver's protocol
// that asks m for its answers, and makes a driver that sends one item there.
func Processor(t *testing.T, open func(t *testing.T, m *Model) gantry.Processor) {
	t.Helper()
	suite(t, func(t *testing.T) served {
		m := newModel()
		return served{m, open(t, m)}
	}, processorCases())
}

type served struct {
	model     *Model
	processor gantry.Processor
}

func processorCases() []testCase[served] {
	cases := []testCase[served]{
		{"sends an item and takes the answer", processorRound},
		{"keeps the key of a part", processorKey},
		{"calls side by side", processorSideBySide},
		{"takes an empty answer", processorEmpty},
		{"hands on an error of opening", processorUnopened},
		{"hands on an error of reading", processorUnreadable},
		{"finds an item of another size", processorMismatch},
		{"hands on an error of receiving", processorUnreceived},
		{"sends nothing when cancelled", processorCancelled},
		{"ends when cancelled", processorCancelledMidway},
		{"ends at its deadline", processorLate},
		{"recovers", processorRecovers},
	}
	for fault, kind := range map[Fault]gantry.Kind{
		Busy: gantry.Unavailable, Broken: gantry.Transient, Refusing: gantry.Permanent, Denying: gantry.Denied,
		Missing: gantry.NotFound, Babbling: gantry.BadResponse, Resetting: gantry.Transient, Cutting: gantry.Transient,
	} {
		cases = append(cases, testCase[served]{"classifies " + string(fault), func(ctx context.Context, s served) error {
			return s.classifies(ctx, fault, kind)
		}})
	}
	return cases
}

// posting is one request with what came of it.
type posting struct {
	handles
	gantry.Request
	mu       sync.Mutex
	received []Medium
	sizes    []int64
}

// post makes a request of one item. size is what the item claims.
func post(key string, body []byte, size int64) *posting {
	p := &posting{}
	p.Request = gantry.Request{
		Key:   key,
		Items: []gantry.Item{{Name: private, Media: gantry.MediaDICOM, Size: size}},
		Open:  func(context.Context, int) (io.ReadCloser, error) { return p.reader(body, nil), nil },
		Receive: func(_ context.Context, media string, size int64, body io.Reader) error {
			b, err := io.ReadAll(body)
			if err != nil {
				return fmt.Errorf("stage output: %w", err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.received, p.sizes = append(p.received, Medium{media, b}), append(p.sizes, size)
			return nil
		},
	}
	return p
}

// run makes the call. Its error and what it left open are checked besides.
func (p *posting) run(ctx context.Context, s served) (callErr, wrong error) {
	callErr = s.processor.Process(ctx, &p.Request)
	return callErr, errors.Join(p.allClosed(), wantDiscreet(callErr))
}

// want compares what was received with one output.
func (p *posting) want(media string, body []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.received) != 1 {
		return fmt.Errorf("%d outputs when Process returned, want 1", len(p.received))
	}
	if got := p.received[0]; got.Media != media || !bytes.Equal(got.Body, body) {
		return fmt.Errorf("received %d bytes of %s, want %d of %s (or the bytes differ)", len(got.Body), got.Media, len(body), media)
	}
	if size := p.sizes[0]; size != -1 && size != int64(len(body)) {
		return fmt.Errorf("the size of an output of %d bytes was given as %d", len(body), size)
	}
	return nil
}

func processorRound(ctx context.Context, s served) error {
	for i, c := range []struct {
		in, out []byte
		known   bool // the item's size
		media   string
	}{
		{random(1, 1), random(1, 2), true, gantry.MediaPNG},
		{random(1000, 1), random(100, 2), true, gantry.MediaDICOM},
		{random(1000, 1), []byte(`{"score": 0.5}`), false, gantry.MediaJSON},
		{random(3<<20+1, 1), random(3<<20+7, 2), true, gantry.MediaPNG},
		{random(3<<20+1, 1), random(70_000, 2), false, gantry.MediaPNG},
	} {
		size := int64(-1)
		if c.known {
			size = int64(len(c.in))
		}
		s.model.set(Answer{Media: c.media, Body: c.out})
		p := post(fmt.Sprint("key-", i), c.in, size)
		err, wrong := p.run(ctx, s)
		if err := errors.Join(err, wrong, p.want(c.media, c.out)); err != nil {
			return fmt.Errorf("case %d: %w", i, err)
		}
		came := s.model.requests()
		if len(came) != i+1 || len(came[i].Items) != 1 {
			return fmt.Errorf("case %d: %d requests came", i, len(came))
		}
		if got := came[i].Items[0]; got.Media != gantry.MediaDICOM || !bytes.Equal(got.Body, c.in) {
			return fmt.Errorf("case %d: the service got %d bytes of %q, want the %d of the item", i, len(got.Body), got.Media, len(c.in))
		}
	}
	return nil
}

func processorKey(ctx context.Context, s served) error {
	again, other := post("task/0/0", []byte("x"), 1), post("task/0/1", []byte("x"), 1)
	for _, p := range []*posting{again, again, other} {
		if err, wrong := p.run(ctx, s); err != nil || wrong != nil {
			return errors.Join(err, wrong)
		}
	}
	came := s.model.requests()
	if len(came) != 3 || came[0].Key != "task/0/0" || came[1].Key != came[0].Key || came[2].Key != "task/0/1" {
		return fmt.Errorf("the keys of two tries and another part came as %+v", came)
	}
	return nil
}

func processorSideBySide(ctx context.Context, s served) error {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			in := random(50_000, uint64(i))
			p := post(fmt.Sprint(i), in, int64(len(in)))
			err, wrong := p.run(ctx, s)
			errs[i] = errors.Join(err, wrong, p.want(gantry.MediaPNG, append([]byte("answer to "), in...)))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func processorEmpty(ctx context.Context, s served) error {
	s.model.set(Answer{})
	p := post("k", []byte("x"), 1)
	err, wrong := p.run(ctx, s)
	if len(p.received) != 0 {
		return errors.New("an empty answer became an output")
	}
	return errors.Join(err, wrong)
}

// wantOwn says whether err still is the error of the request's own functions.
func wantOwn(err error) error {
	if !errors.Is(err, errWrong) || gantry.KindOf(err) != errWrong.Kind || gantry.CodeOf(err) != errWrong.Code {
		return fmt.Errorf("the request's own error became %v (%s, %s)", err, gantry.KindOf(err), gantry.CodeOf(err))
	}
	return nil
}

func processorUnopened(ctx context.Context, s served) error {
	p := post("k", []byte("x"), 1)
	p.Open = func(context.Context, int) (io.ReadCloser, error) { return nil, errWrong }
	err, wrong := p.run(ctx, s)
	if n := len(s.model.requests()); n != 0 {
		return fmt.Errorf("%d requests came", n)
	}
	return errors.Join(wantOwn(err), wrong)
}

// processorUnreadable: an item that turns out wrong, also with its last byte, is never a request.
func processorUnreadable(ctx context.Context, s served) error {
	for _, n := range []int{1, 1000, 1 << 20} {
		for _, size := range []int64{int64(n), -1} {
			for _, read := range []int{0, n / 2, n} {
				p := post("k", nil, size)
				p.Open = func(context.Context, int) (io.ReadCloser, error) { return p.reader(random(read, 1), errWrong), nil }
				err, wrong := p.run(ctx, s)
				if err := errors.Join(wantOwn(err), wrong); err != nil {
					return fmt.Errorf("%d of %d bytes, size %d: %w", read, n, size, err)
				}
				if len(p.received) != 0 || len(s.model.requests()) != 0 {
					return fmt.Errorf("%d of %d bytes, size %d: the service got a whole request", read, n, size)
				}
			}
		}
	}
	return nil
}

func processorMismatch(ctx context.Context, s served) error {
	for _, n := range []int{0, 1, 99, 101, 100_000} {
		p := post("k", random(n, 1), 100)
		err, wrong := p.run(ctx, s)
		if err := errors.Join(wantKind(err, gantry.Transient, ""), wrong); err != nil {
			return fmt.Errorf("%d bytes instead of 100: %w", n, err)
		}
		if len(p.received) != 0 || len(s.model.requests()) != 0 {
			return fmt.Errorf("%d bytes instead of 100: the service got a whole request", n)
		}
	}
	return nil
}

func processorUnreceived(ctx context.Context, s served) error {
	s.model.set(Answer{Media: gantry.MediaPNG, Body: random(1<<20, 1)})
	for _, n := range []int64{0, 1, 100_000} {
		p := post("k", []byte("x"), 1)
		p.Receive = func(_ context.Context, _ string, _ int64, body io.Reader) error {
			io.CopyN(io.Discard, body, n)
			return errWrong
		}
		err, wrong := p.run(ctx, s)
		if err := errors.Join(wantOwn(err), wrong); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
	}
	return nil
}

func processorCancelled(ctx context.Context, s served) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	err, wrong := post("k", []byte("x"), 1).run(ctx, s)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled call gave %v", err)
	}
	if n := len(s.model.requests()); n != 0 {
		return fmt.Errorf("%d requests came of a cancelled call", n)
	}
	return wrong
}

func processorCancelledMidway(ctx context.Context, s served) error {
	s.model.set(Answer{Fault: Silent})
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- s.model.wait(ctx); cancel() }()
	err, wrong := post("k", []byte("x"), 1).run(calling, s)
	if err2 := <-waited; err2 != nil {
		return err2
	}
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled call gave %v", err)
	}
	return wrong
}

func processorLate(ctx context.Context, s served) error {
	s.model.set(Answer{Fault: Silent})
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	err, wrong := post("k", []byte("x"), 1).run(ctx, s)
	return errors.Join(wantKind(err, gantry.Timeout, ""), wrong)
}

// processorRecovers: a fault leaves nothing behind.
func processorRecovers(ctx context.Context, s served) error {
	for _, f := range []Fault{Broken, Resetting, Cutting, Babbling} {
		s.model.set(Answer{Fault: f, Media: gantry.MediaPNG, Body: random(100_000, 1)})
		if err, wrong := post("k", []byte("x"), 1).run(ctx, s); err == nil || wrong != nil {
			return fmt.Errorf("%s: %v, %v", f, err, wrong)
		}
		s.model.set(Answer{Media: gantry.MediaPNG, Body: []byte("fine")})
		p := post("k", []byte("x"), 1)
		err, wrong := p.run(ctx, s)
		if err := errors.Join(err, wrong, p.want(gantry.MediaPNG, []byte("fine"))); err != nil {
			return fmt.Errorf("after %s: %w", f, err)
		}
	}
	return nil
}

func (s served) classifies(ctx context.Context, fault Fault, kind gantry.Kind) error {
	for _, after := range []time.Duration{0, 7 * time.Second} {
		if after > 0 && fault != Busy {
			break
		}
		s.model.set(Answer{Fault: fault, RetryAfter: after, Media: gantry.MediaPNG, Body: bytes.Repeat([]byte(private+" "), 20_000)})
		p := post("k", []byte("x"), 1)
		err, wrong := p.run(ctx, s)
		if err := errors.Join(wantKind(err, kind, ""), wrong); err != nil {
			return err
		}
		if len(p.received) != 0 {
			return errors.New("a failed call had an output")
		}
		if got := gantry.RetryAfterOf(err); got != after {
			return fmt.Errorf("RetryAfter = %s, want %s", got, after)
		}
	}
	return nil
}
