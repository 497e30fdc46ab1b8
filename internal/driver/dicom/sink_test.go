package dicom

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
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
	if _, n := a.seen(); n != 0 {
		t.Errorf("%d associations", n)
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
	if _, n := a.seen(); n != 1 {
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
