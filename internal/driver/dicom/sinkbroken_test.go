package dicom

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSinkLostAnswer delivers anew what arrived though its answer did not: the archive has one object, whatever it says then.
func TestSinkLostAnswer(t *testing.T) {
	t.Parallel()
	for _, second := range []dimse.Status{dimse.StatusSuccess, dimse.StatusDuplicate, 0xB000} {
		a := &archive{}
		cut := make(chan struct{})
		a.status = func(n int, _ dimse.StoreRequest) dimse.Status {
			if n == 1 {
				close(cut)
				time.Sleep(200 * time.Millisecond)
				return dimse.StatusSuccess
			}
			return second
		}
		archiveAt(t, a, nil)
		var conn net.Conn
		s := openSink(t, configTo(t, a.address), cutting{drivertest.Egress(t), &conn})
		b, dataset := part10(classCT, uidOf(1), dimse.ExplicitLE, 1000)
		go func() { <-cut; conn.Close() }()
		err := s.Deliver(t.Context(), parcelOf("x", b))
		if err == nil || gantry.KindOf(err) != gantry.Transient {
			t.Errorf("%04X: the answer that was lost: %v (%s)", second, err, gantry.KindOf(err))
		}
		wantDiscreet(t, "lost", err)
		if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
			t.Errorf("%04X: again: %v", second, err)
		}
		a.want(t, map[string][]byte{uidOf(1): dataset})
	}
}

// cutting keeps hold of the first connection.
type cutting struct {
	gantry.Egress
	first *net.Conn
}

func (c cutting) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Egress.DialContext(ctx, network, address)
	if *c.first == nil {
		*c.first = conn
	}
	return conn, err
}

// TestSinkAborted is broken off at many places within an object, and every time the next try succeeds.
func TestSinkAborted(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	b, dataset := part10(classCT, uidOf(1), dimse.ExplicitLE, 400_000)
	for _, after := range []int64{1, 100, 300, 1000, 130_000, 131_100, 300_000, 400_000} {
		e := &severing{Egress: drivertest.Egress(t), after: after}
		s := openSink(t, configTo(t, a.address), e)
		err := s.Deliver(t.Context(), parcelOf("x", b))
		if err == nil || gantry.KindOf(err) != gantry.Transient {
			t.Errorf("cut after %d bytes: %v (%s)", after, err, gantry.KindOf(err))
		}
		if after < 390_000 {
			a.want(t, map[string][]byte{})
		}
		if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
			t.Errorf("after a cut at %d: %v", after, err)
		}
		a.want(t, map[string][]byte{uidOf(1): dataset})
		a.mu.Lock()
		clear(a.got)
		a.mu.Unlock()
	}
}

// severing gives a first connection that breaks after so many bytes.
type severing struct {
	gantry.Egress
	after int64
	done  bool
}

func (s *severing) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := s.Egress.DialContext(ctx, network, address)
	if err != nil || s.done {
		return c, err
	}
	s.done = true
	return &severed{Conn: c, left: s.after}, nil
}

type severed struct {
	net.Conn
	left int64
}

func (s *severed) Write(p []byte) (int, error) {
	if int64(len(p)) < s.left {
		s.left -= int64(len(p))
		return s.Conn.Write(p)
	}
	n, _ := s.Conn.Write(p[:s.left])
	s.Conn.Close()
	return n, io.ErrClosedPipe
}

// TestSinkSlow gives up an archive that does not answer, when its call's time is up.
func TestSinkSlow(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{slow: 2 * time.Second}, nil)
	s := openSink(t, configTo(t, a.address), drivertest.Egress(t))
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 1000)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, gantry.Errorf(gantry.Timeout, "", "no answer in time"))
	defer cancel()
	began := time.Now()
	wantError(t, "slow", s.Deliver(ctx, parcelOf("x", b)), gantry.Timeout, "timeout")
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}
