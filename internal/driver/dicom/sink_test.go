package dicom

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// configTo is a sink of an archive.
func configTo(t testing.TB, address string) SinkConfig {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return SinkConfig{Host: host, Port: n, AET: "PACS", Calling: "GANTRY"}
}

func openSink(t testing.TB, c SinkConfig, e gantry.Egress) *sink {
	t.Helper()
	s, err := NewSink(t.Context(), c, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.(*sink).out.close)
	return s.(*sink)
}

// parcelOf is the delivery of a file.
func parcelOf(path string, b []byte) gantry.Delivery {
	f := fileFrom(b)
	return gantry.Delivery{Path: path, Media: gantry.MediaDICOM, Size: f.size, SHA: f.sha, Open: f.open}
}

// TestSinkConfig says of each mistake where it is.
func TestSinkConfig(t *testing.T) {
	t.Parallel()
	sound := SinkConfig{Host: "pacs.local", AET: "PACS", Commit: true, Listen: ":11112"}
	if found := sound.Check(); found != nil {
		t.Fatal(found)
	}
	if k := sound.Target().Key(); k != "dicom://pacs.local:104/PACS" || sound.AtOnce() != 4 || sound.calling() != "GANTRY" {
		t.Error(k, sound.AtOnce(), sound.calling())
	}
	for key, change := range map[string]func(*SinkConfig){
		"host":            func(c *SinkConfig) { c.Host = "pacs.local:104" },
		"aet":             func(c *SinkConfig) { c.AET = "longer than sixteen" },
		"calling":         func(c *SinkConfig) { c.Calling = `A\B` },
		"tls.cert":        func(c *SinkConfig) { c.TLS.Cert = "x.pem" },
		"listen_tls.cert": func(c *SinkConfig) { c.ListenTLS.CA = "x.pem" },
		"listen":          func(c *SinkConfig) { c.Listen = "" },
	} {
		c := sound
		change(&c)
		if found := c.Check(); len(found) != 1 || found[0].Key != key {
			t.Errorf("%s: %v", key, found)
		}
		if _, err := NewSink(t.Context(), c, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%s: opened: %v", key, err)
		}
	}
	for _, listen := range []string{":0", "nowhere", ":99999"} {
		c := sound
		c.Listen = listen
		if len(c.Check()) != 1 {
			t.Errorf("listen %s passes", listen)
		}
	}
	c := sound
	c.Commit = false
	if found := c.Check(); len(found) != 1 || found[0].Key != "listen" {
		t.Errorf("listen without commit: %v", found)
	}
	if _, err := clientTLS(TLSConfig{CA: "/nowhere"}, "x"); gantry.CodeOf(err) != CodeBadConfig || strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}

// TestSinkDelivers delivers, again and side by side, and an object that lies there stays one object.
func TestSinkDelivers(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := openSink(t, configTo(t, a.address), drivertest.Egress(t))
	b, dataset := part10(classCT, uidOf(1), dimse.ExplicitLE, 200_000)
	errs := make(chan error, 6)
	for range 6 {
		go func() { errs <- s.Deliver(t.Context(), parcelOf("task/000001.dcm", b)) }()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	a.want(t, map[string][]byte{uidOf(1): dataset})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Deliver(ctx, parcelOf("x", b)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSinkPicks takes DICOM objects and nothing else.
func TestSinkPicks(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := openSink(t, configTo(t, a.address), drivertest.Egress(t))
	for _, media := range []string{gantry.MediaJSON, gantry.MediaPNG, ""} {
		out := parcelOf("x", []byte("{}"))
		out.Media = media
		wantError(t, media, s.Deliver(t.Context(), out), gantry.Illegal, CodeOnlyDICOM)
		if s.Picks(media, false) {
			t.Errorf("it takes %q", media)
		}
	}
	if s.Picks(gantry.MediaJSON, true) || s.Picks(gantry.MediaDICOM, true) || !s.Picks(gantry.MediaDICOM, false) {
		t.Error("it takes a manifest, or no objects")
	}
	wantError(t, "no object", s.Deliver(t.Context(), parcelOf("x", []byte("no object at all"))), gantry.Illegal, "not_dicom")
	if _, n, _ := a.seen(); n != 0 {
		t.Errorf("%d associations", n)
	}
}

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

// TestSinkCommit asks for commitment of what was delivered, and takes the answer to the request and no other.
func TestSinkCommit(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen, c.CommitWithin = true, "127.0.0.1:11112", time.Minute
	s := openSink(t, c, drivertest.Egress(t))
	if s.Confirmation().Within != time.Minute {
		t.Error(s.Confirmation())
	}
	var list []gantry.Delivery
	var want []dimse.Reference
	for i := range 3 {
		b, _ := part10(classCT, uidOf(i), dimse.ExplicitLE, 100)
		if i == 0 {
			list = append(list, parcelOf("twice", b)) // asked about once
		}
		list, want = append(list, parcelOf("x", b)), append(want, dimse.Reference{Class: classCT, Instance: uidOf(i)})
		if err := s.Deliver(t.Context(), list[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Confirm(t.Context(), "2.25.77", list); err != nil {
		t.Fatal(err)
	}
	if len(a.commits) != 1 || a.commits[0].Transaction != "2.25.77" || !slices.Equal(a.commits[0].Instances, want) {
		t.Errorf("the archive was asked %+v", a.commits)
	}
	report := dimse.Commitment{Transaction: "2.25.77", Instances: want[:2], Failed: []dimse.Failed{{Reference: want[2], Reason: 0x0112}}}
	if mine, _ := s.Reported(t.Context(), dimse.Peer{}, report); mine {
		t.Error("a report is taken though nobody does")
	}
	var got gantry.Answer
	s.Tell(func(_ context.Context, x gantry.Answer) (bool, error) {
		got = x
		switch x.ID {
		case "2.25.77":
			return true, nil
		case "2.25.78":
			return false, errors.New("no database")
		}
		return false, nil
	})
	mine, r := s.Reported(t.Context(), dimse.Peer{}, report)
	name, err := s.NameOf(t.Context(), list[3])
	if !mine || r.Status != dimse.StatusSuccess || err != nil || got.Kept != 2 || len(got.Failed) != 1 || got.Failed[0] != (gantry.Unconfirmed{Name: name, Reason: 0x0112}) {
		t.Errorf("%v, %+v, %+v, %v", mine, r, got, err)
	}
	report.Transaction = "2.25.78"
	if mine, r := s.Reported(t.Context(), dimse.Peer{}, report); !mine || r.Status != dimse.StatusProcessing {
		t.Errorf("what could not be kept: %v, %+v", mine, r)
	}
	report.Transaction = "2.25.79"
	if r := (onOurs{s}).Reported(t.Context(), report); r.Status != dimse.StatusNoSuchInstance {
		t.Errorf("of somebody else: %+v", r)
	}
}

// TestSinkCommitStatus holds the answers to a request to what they mean.
func TestSinkCommitStatus(t *testing.T) {
	t.Parallel()
	var status dimse.Status
	a := archiveAt(t, &archive{commit: func(dimse.Commitment) dimse.Status { return status }}, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen = true, "127.0.0.1:11112"
	s := openSink(t, c, drivertest.Egress(t))
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	for x, code := range map[dimse.Status]gantry.Code{0: "", statusDuplicateTransaction: "", 0x0110: CodeProcessing, 0x0124: CodeNotAuthorized, 0x0122: CodeNotSupported, 0x0112: CodeRefused} {
		status = x
		if err := s.Confirm(t.Context(), "2.25.1", []gantry.Delivery{parcelOf("x", b)}); gantry.CodeOf(err) != code {
			t.Errorf("%04X: %v", x, err)
		}
	}
	deaf := archiveAt(t, &archive{takes: func(c dimse.Context) bool { return c.Abstract != dimse.StorageCommitment }}, nil)
	c.Port = configTo(t, deaf.address).Port
	s = openSink(t, c, drivertest.Egress(t))
	wantError(t, "deaf", s.Confirm(t.Context(), "2.25.1", []gantry.Delivery{parcelOf("x", b)}), gantry.Permanent, CodeNotAccepted)
	if p := s.Probe(t.Context()); len(p) != 2 || p[0].Bad || !p[1].Bad {
		t.Errorf("%+v", p)
	}
}

// TestSinkProbe looks whether an archive is there.
func TestSinkProbe(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	c := configTo(t, a.address)
	if p := openSink(t, c, drivertest.Egress(t)).Probe(t.Context()); len(p) != 1 || p[0].Bad || p[0].Advice != "" {
		t.Errorf("%+v", p)
	}
	c.Commit, c.Listen = true, "127.0.0.1:11112"
	if p := openSink(t, c, drivertest.Egress(t)).Probe(t.Context()); len(p) != 2 || p[0].Bad || p[1].Bad {
		t.Errorf("%+v", p)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if p := openSink(t, configTo(t, l.Addr().String()), drivertest.Egress(t)).Probe(t.Context()); len(p) != 1 || !p[0].Bad || p[0].Advice == "" {
		t.Errorf("%+v", p)
	}
}

// TestSinkOnRecord delivers through the gate: each call's record has its own object's bytes and status, on associations that are used
// again.
func TestSinkOnRecord(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{status: func(n int, _ dimse.StoreRequest) dimse.Status { return []dimse.Status{0, 0xB000, 0xA700, 0}[n-1] }}, nil)
	c := configTo(t, a.address)
	s := openSink(t, c, gate.NewEgress(c.Target(), gate.Policy{}))
	for i, status := range []int32{0, 0xB000, 0xA700, 0} {
		b, dataset := part10(classCT, uidOf(i), dimse.ExplicitLE, 100_000*i)
		m := gate.NewMeter(time.Now)
		m.Several()
		ended := 0
		m.OnLastByte = func() { ended++ }
		err := s.Deliver(gate.WithMeter(t.Context(), m), parcelOf("x", b))
		m.Close()
		o := m.Snapshot()
		if (err != nil) != (status == 0xA700) || o.Status != status || o.ReqSize != int64(len(dataset)) || o.ReqSHA != fileFrom(dataset).sha || o.TTFB <= 0 || ended != 1 {
			t.Errorf("object %d: %v, %+v, ended %d times", i, err, o, ended)
		}
	}
	if _, n, _ := a.seen(); n != 1 {
		t.Errorf("%d associations", n)
	}
	b, _ := part10(classCT, uidOf(9), dimse.ExplicitLE, 100)
	wantError(t, "without a record", s.Deliver(t.Context(), parcelOf("x", b)), gantry.Illegal, gate.CodeNoRecord)
	m := gate.NewMeter(time.Now)
	jpeg, _ := part10(classCT, uidOf(9), syntaxJPEG, 100)
	a.mu.Lock()
	a.takes = func(c dimse.Context) bool { return c.Transfer[0] != syntaxJPEG }
	a.mu.Unlock()
	wantError(t, "not accepted", s.Deliver(gate.WithMeter(t.Context(), m), parcelOf("x", jpeg)), gantry.Permanent, CodeNotAccepted)
	if m.HasBegun() {
		t.Error("a call of which nothing was sent has begun")
	}
}

// TestSinkConformance is what every sink of its kind must do.
func TestSinkConformance(t *testing.T) {
	t.Parallel()
	drivertest.Archive(t, func(t *testing.T) drivertest.Shelf {
		a := archiveAt(t, &archive{}, nil)
		var mu sync.Mutex
		paths, heads := map[string]string{}, map[string][]byte{}
		return drivertest.Shelf{
			Sink: openSink(t, configTo(t, a.address), drivertest.Egress(t)),
			Body: func(path string, n int, seed uint64) []byte {
				sum := sha256.Sum256([]byte(path))
				uid := fmt.Sprintf("2.25.%d", binary.BigEndian.Uint64(sum[:]))
				file, dataset := part10(classCT, uid, dimse.ExplicitLE, n)
				file[len(file)-1] = byte(seed)
				mu.Lock()
				defer mu.Unlock()
				paths[uid], heads[uid] = path, file[:len(file)-len(dataset)]
				return file
			},
			List: func() (map[string][]byte, error) {
				a.mu.Lock()
				defer a.mu.Unlock()
				mu.Lock()
				defer mu.Unlock()
				out := map[string][]byte{}
				for uid, dataset := range a.got {
					out[paths[uid]] = slices.Concat(heads[uid], dataset)
				}
				return out, nil
			},
		}
	})
}

// promptArchive is an archive that reports on the association on which it was asked, while that is open.
type promptArchive struct {
	*archive
	on *dimse.Association
}

// Attend is told which association that is.
func (r *promptArchive) Attend(a *dimse.Association) { r.on = a }

// Commit reports at once, and again, beside its response.
func (r *promptArchive) Commit(_ context.Context, c dimse.Commitment) dimse.Response {
	go func() {
		for range 2 {
			r.on.Report(context.Background(), c)
		}
	}()
	return dimse.Response{}
}

// TestSinkCommitSameAssociation takes a report on the association on which the request was made.
func TestSinkCommitSameAssociation(t *testing.T) {
	t.Parallel()
	a := &archive{}
	a.handler = func() dimse.Handler { return &promptArchive{archive: a} }
	archiveAt(t, a, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen = true, "127.0.0.1:11112"
	s := openSink(t, c, drivertest.Egress(t))
	answers := make(chan gantry.Answer, 2)
	s.Tell(func(_ context.Context, x gantry.Answer) (bool, error) { answers <- x; return true, nil })
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	for i := range 3 {
		if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("2.25.%d", i+1)
		if err := s.Confirm(t.Context(), id, []gantry.Delivery{parcelOf("x", b)}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if x := waitAnswer(t, answers); x.ID != id || x.Kept != 1 || x.Names != namesOf(t, s, []gantry.Delivery{parcelOf("x", b)}) {
				t.Errorf("%+v", x)
			}
		}
	}
	if _, n, _ := a.seen(); n != 2 {
		t.Errorf("%d associations: one for objects, one that also takes requests", n)
	}
}
