package dicom

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// configAt is a sink of a peer.
func configAt(t testing.TB, p *dimsetest.Peer) SinkConfig {
	c := configTo(t, p.Address())
	c.AET = p.AET
	return c
}

// laidDown gives the data sets that a peer wrote, by SOP Instance UID.
func laidDown(t *testing.T, p *dimsetest.Peer) map[string][]byte {
	t.Helper()
	files, err := p.Received()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		o, data, err := dicom.Split(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(data); err != nil {
			t.Fatal(err)
		}
		got[o.Instance] = body.Bytes()
	}
	return got
}

// TestSinkStorescp sends to storescp, and to dcmqrscp, and finds the same bytes again.
func TestSinkStorescp(t *testing.T) {
	t.Parallel()
	p := dimsetest.Storescp(t, dimsetest.SCP{Fork: true, Exact: true})
	s := openSink(t, configAt(t, p), drivertest.Egress(t))
	want := map[string][]byte{}
	var wg sync.WaitGroup
	for i := range 30 {
		b, dataset := part10([]string{classCT, classCapture}[i%2], uidOf(i), []string{dimse.ImplicitLE, dimse.ExplicitLE, syntaxJPEG}[i%3], 1<<(i%18))
		want[uidOf(i)] = dataset
		wg.Go(func() {
			for range 2 { // it may be sent again
				if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.out.close()
	got := laidDown(t, p)
	for uid, dataset := range want {
		if !bytes.Equal(got[uid], dataset) {
			t.Errorf("an object of %d bytes came as %d", len(dataset), len(got[uid]))
		}
	}
	if len(got) != 30 {
		t.Errorf("%d objects", len(got))
	}
}

func TestSinkDcmqrscp(t *testing.T) {
	t.Parallel()
	p := dimsetest.Dcmqrscp(t, dimsetest.Archive{})
	s := openSink(t, configAt(t, p), drivertest.Egress(t))
	for _, name := range dimsetest.NewStudy(t, 5, 32).Files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
			t.Error(err)
		}
	}
	p.Wait(t, 5)
	if found := s.Probe(t.Context()); len(found) != 1 || found[0].Bad {
		t.Errorf("%+v", found)
	}
}

// TestSinkCorpus sends every valid object of the corpus to storescp. What it does not take is not sent in another form.
func TestSinkCorpus(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	p := dimsetest.Storescp(t, dimsetest.SCP{Fork: true, Exact: true, Args: []string{"--promiscuous"}})
	s := openSink(t, configAt(t, p), drivertest.Egress(t))
	want, refused := map[string][]byte{}, map[string]int{}
	for _, r := range rows {
		if r.Kind != "dicom" || r.Expect == "reject" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, r.Path))
		if err != nil {
			t.Fatal(err)
		}
		switch err := s.Deliver(t.Context(), parcelOf("x", b)); {
		case gantry.CodeOf(err) == CodeNotAccepted:
			o, _, _ := dicom.Split(bytes.NewReader(b))
			refused[o.Transfer]++
		case gantry.CodeOf(err) == CodeOddLength:
			refused["odd"]++
		case err != nil:
			t.Errorf("%s: %v (%s)", r.Path, err, gantry.CodeOf(err))
		default:
			o, data, err := dicom.Split(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			var body bytes.Buffer
			body.ReadFrom(data)
			if body.Len()%2 == 1 && o.Transfer == dimse.DeflatedLE {
				body.WriteByte(0)
			}
			want[o.Instance] = body.Bytes()
		}
	}
	s.out.close()
	got := laidDown(t, p)
	for uid, dataset := range want {
		if !bytes.Equal(got[uid], dataset) {
			t.Errorf("an object of %d bytes came as %d", len(dataset), len(got[uid]))
		}
	}
	t.Logf("%d objects; not taken, by transfer syntax: %v", len(want), refused)
	if len(want) < 100 || refused["odd"] > 1 {
		t.Errorf("%d objects", len(want))
	}
}

// TestSinkTLS sends to an archive that wants to see a certificate, and to none that shows a wrong one.
func TestSinkTLS(t *testing.T) {
	t.Parallel()
	authority := dimsetest.NewAuthority(t)
	theirs, ours := authority.Issue(t, "pacs"), authority.Issue(t, "gantry")
	p := dimsetest.Storescp(t, dimsetest.SCP{Exact: true, TLS: &theirs})
	c := configAt(t, p)
	b, dataset := part10(classCT, uidOf(1), dimse.ExplicitLE, 100_000)
	c.TLS = TLSConfig{CA: ours.CA, Cert: ours.Cert, Key: ours.Key}
	s := openSink(t, c, drivertest.Egress(t))
	if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
		t.Fatal(err)
	}
	s.out.close()
	if got := laidDown(t, p); len(got) != 1 || !bytes.Equal(got[uidOf(1)], dataset) {
		t.Errorf("%d objects", len(got))
	}
	stranger := dimsetest.NewAuthority(t).Issue(t, "somebody")
	for what, x := range map[string]TLSConfig{
		"a peer of another authority": {CA: stranger.CA, Cert: ours.Cert, Key: ours.Key},
		"a peer of another name":      {CA: ours.CA, Cert: ours.Cert, Key: ours.Key, Name: "elsewhere.test"},
		"no certificate of ours":      {CA: ours.CA},
		"one of another authority":    {CA: ours.CA, Cert: stranger.Cert, Key: stranger.Key},
		"no TLS":                      {},
	} {
		c.TLS = x
		err := openSink(t, c, drivertest.Egress(t)).Deliver(t.Context(), parcelOf("x", b))
		if err == nil {
			t.Errorf("%s: it was sent", what)
		}
		t.Logf("%s: %v (%s)", what, err, gantry.KindOf(err))
		wantDiscreet(t, what, err)
	}
}

// TestSinkOrthanc delivers to Orthanc and has it confirm: its report comes on an association of its own, to our port.
func TestSinkOrthanc(t *testing.T) {
	t.Parallel()
	listen := dimsetest.FreePort(t)
	o := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: listen}}})
	c := configAt(t, o.Peer)
	c.Commit, c.Listen = true, fmt.Sprintf("127.0.0.1:%d", listen)
	s := openSink(t, c, drivertest.Egress(t))
	answers := make(chan gantry.Answer, 8)
	s.Tell(func(_ context.Context, a gantry.Answer) (bool, error) { answers <- a; return true, nil })
	answerAt(t, s)
	var list []gantry.Delivery
	for _, name := range dimsetest.NewStudy(t, 4, 32).Files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parcelOf("x", b))
	}
	for _, d := range list[:3] {
		if err := s.Deliver(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Confirm(t.Context(), "2.25.1", list[:3]); err != nil {
		t.Fatal(err)
	}
	if a := waitAnswer(t, answers); a.ID != "2.25.1" || a.Kept != 3 || len(a.Failed) > 0 || a.Names != namesOf(t, s, list[:3]) {
		t.Errorf("%+v", a)
	}
	if err := s.Confirm(t.Context(), "2.25.2", list); err != nil {
		t.Fatal(err)
	}
	name, err := s.NameOf(t.Context(), list[3])
	if a := waitAnswer(t, answers); err != nil || a.ID != "2.25.2" || a.Names != namesOf(t, s, list[:3]) || a.Kept != 3 || len(a.Failed) != 1 || a.Failed[0].Name != name {
		t.Errorf("one that was not sent: %+v, %v", a, err)
	}
	if n := len(o.Instances(t)); n != 3 {
		t.Errorf("Orthanc has %d objects", n)
	}
}

// answerAt gives somebody a port of his own until the test ends.
func answerAt(t *testing.T, c Called) {
	t.Helper()
	p := NewPort(Options{Blobs: func() (gantry.Blobs, error) { return nil, gantry.Errorf(gantry.Unavailable, "none", "no blobs") }, Now: time.Now, Grace: time.Second})
	if err := p.Add(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func waitAnswer(t *testing.T, answers <-chan gantry.Answer) gantry.Answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no answer came")
		return gantry.Answer{}
	}
}

func namesOf(t *testing.T, s *sink, list []gantry.Delivery) gantry.Digest {
	t.Helper()
	var names []gantry.Digest
	for _, d := range list {
		name, err := s.NameOf(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return gantry.NamesDigest(names)
}
