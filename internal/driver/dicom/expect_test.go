package dicom

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// asked is an archive of another make, asked over the gate.
func asked(t *testing.T, p *dimsetest.Peer, change ...func(*ArchiveConfig)) gantry.Expecting {
	t.Helper()
	c := ArchiveConfig{Host: "127.0.0.1", Port: p.Port, AET: p.AET}
	for _, f := range change {
		f(&c)
	}
	a, err := NewArchive(t.Context(), c, gate.NewEgress(c.Target(), gate.Policy{}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// onRecord is a ctx in which questions are control traffic, and what of it was put on record when the test asks.
func onRecord(t *testing.T) (ctx context.Context, written func() []gantry.Control) {
	t.Helper()
	c := gate.NewControl(gantry.NewIDs(time.Now, rand.Reader), time.Now)
	return c.WithControl(t.Context(), gantry.ControlKey{Boundary: gantry.AtArchive, Limiter: 7, Pipeline: 3}), func() (rows []gantry.Control) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		c.Run(over, func(_ context.Context, list []gantry.Control) error { rows = append(rows, list...); return nil })
		return rows
	}
}

// twoSeries writes a study of two series, of 5 and 3 instances.
func twoSeries(t *testing.T) (files []string, study string, series [2]string) {
	t.Helper()
	a, b := dimsetest.NewStudy(t, 5, 32), dimsetest.NewStudy(t, 3, 32)
	series[0], series[1] = seriesIn(t, a.Files[0]), seriesIn(t, b.Files[0])
	for _, file := range b.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte(b.UID), []byte(a.UID)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return slices.Concat(a.Files, b.Files), a.UID, series
}

// seriesIn reads the Series Instance UID of a file in explicit VR little endian.
func seriesIn(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("\x20\x00\x0e\x00UI"))
	n := int(text[at+6])
	return string(bytes.TrimRight(text[at+8:at+8+n], "\x00"))
}

// holdCounts wants an archive, into which put puts files, to count a study of two series as it comes in.
func holdCounts(t *testing.T, a gantry.Expecting, put func(files ...string)) {
	t.Helper()
	ctx, written := onRecord(t)
	files, study, series := twoSeries(t)
	requests := 0
	want := func(of string, wantN int) {
		t.Helper()
		requests++
		if n, known, err := a.Expect(ctx, study, of); err != nil || n != wantN || known != (wantN > 0) {
			t.Errorf("%d, %t, %v; want %d", n, known, err, wantN)
		}
	}
	want("", 0)
	want(series[0], 0)
	put(files[:2]...)
	want("", 2)
	want(series[1], 0)
	put(files[2:]...)
	want("", 8)
	want(series[0], 5)
	want(series[1], 3)
	want("1.2.3.4", 0)
	rows := written()
	if len(rows) != 1 || rows[0].Requests < int32(requests) || rows[0].Failures != 0 || rows[0].Boundary != gantry.AtArchive || rows[0].Limiter != 7 || rows[0].Took <= 0 {
		t.Errorf("on record: %+v", rows)
	}
}

// TestExpectPeers asks an archive that counts, Orthanc, and one that does not, dcmqrscp: its instances are counted by their names.
func TestExpectPeers(t *testing.T) {
	t.Parallel()
	t.Run("Orthanc", func(t *testing.T) {
		t.Parallel()
		o := dimsetest.Orthanc(t, dimsetest.Settings{})
		holdCounts(t, asked(t, o.Peer), func(files ...string) {
			for _, f := range files {
				o.Load(t, f)
			}
		})
	})
	t.Run("dcmqrscp", func(t *testing.T) {
		t.Parallel()
		p := dimsetest.Dcmqrscp(t, dimsetest.Archive{})
		holdCounts(t, asked(t, p), func(files ...string) {
			dimsetest.Must(t, "storescu", append(append([]string{"-aec", p.AET}, p.At()...), files...)...)
		})
	})
}

// TestExpectSecure asks over TLS with certificates on both sides.
func TestExpectSecure(t *testing.T) {
	t.Parallel()
	authority := dimsetest.NewAuthority(t)
	theirs, ours := authority.Issue(t, "archive", "127.0.0.1"), authority.Issue(t, "gantry")
	o := dimsetest.Orthanc(t, dimsetest.Settings{More: map[string]any{"DicomTlsEnabled": true, "DicomTlsCertificate": theirs.Cert,
		"DicomTlsPrivateKey": theirs.Key, "DicomTlsTrustedCertificates": theirs.CA}})
	files, study, _ := twoSeries(t)
	o.Load(t, files[0])
	ctx, written := onRecord(t)
	secure := asked(t, o.Peer, func(c *ArchiveConfig) { c.TLS = TLSConfig{CA: ours.CA, Cert: ours.Cert, Key: ours.Key} })
	if n, known, err := secure.Expect(ctx, study, ""); n != 1 || !known || err != nil {
		t.Errorf("%d, %t, %v", n, known, err)
	}
	other := dimsetest.NewAuthority(t).Issue(t, "gantry")
	stranger := asked(t, o.Peer, func(c *ArchiveConfig) { c.TLS = TLSConfig{CA: other.CA} })
	if _, _, err := stranger.Expect(ctx, study, ""); gantry.KindOf(err) != gantry.Denied {
		t.Errorf("an archive that nobody vouches for: %v", err)
	}
	if rows := written(); len(rows) != 2 {
		t.Errorf("on record: %+v", rows)
	}
}

// TestExpectFails: each way in which a question fails has its kind, and a row of its own.
func TestExpectFails(t *testing.T) {
	t.Parallel()
	o := dimsetest.Orthanc(t, dimsetest.Settings{More: map[string]any{"DicomCheckCalledAet": true}})
	store := dimsetest.Storescp(t, dimsetest.SCP{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, c := range map[string]struct {
		port int
		aet  string
		kind gantry.Kind
	}{
		"another AE title":      {o.Port, "OTHER", gantry.Denied},
		"no archive":            {store.Port, store.AET, gantry.Permanent},
		"nobody listens":        {dimsetest.FreePort(t), "ANY", gantry.Transient},
		"one that says nothing": {silent.Addr().(*net.TCPAddr).Port, "ANY", gantry.Timeout},
	} {
		ctx, written := onRecord(t)
		a := asked(t, &dimsetest.Peer{Port: c.port, AET: c.aet})
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		began := time.Now()
		_, known, err := a.Expect(ctx, "1.2.3", "")
		cancel()
		if took := time.Since(began); known || gantry.KindOf(err) != c.kind || took > 10*time.Second {
			t.Errorf("%s: %v, %t, %v after %s", name, gantry.KindOf(err), known, err, took)
		}
		wantDiscreet(t, name, err)
		if rows := written(); len(rows) != 1 || rows[0].Failures != 1 || rows[0].Kind != c.kind {
			t.Errorf("%s: on record %+v", name, rows)
		}
	}
}

// TestExpectUIDs: what is no UID is not asked about, and a question without a record does not leave.
func TestExpectUIDs(t *testing.T) {
	t.Parallel()
	c := ArchiveConfig{Host: "127.0.0.1", Port: 1, AET: "ANY"}
	a, err := NewArchive(t.Context(), c, gate.NewEgress(c.Target(), gate.Policy{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, uids := range [][2]string{{"", ""}, {"1.2.*", ""}, {"1.2\\1.3", ""}, {"1.2", "?"}, {"../x", "1.2"}} {
		if _, _, err := a.Expect(t.Context(), uids[0], uids[1]); gantry.CodeOf(err) != gantry.CodeBadUID {
			t.Errorf("%q: %v", uids, err)
		}
	}
	if _, _, err := a.Expect(t.Context(), "1.2", ""); gantry.CodeOf(err) != gate.CodeNoRecord {
		t.Errorf("without a record: %v", err)
	}
}

// TestFindStatus holds the statuses of C-FIND to what they mean.
func TestFindStatus(t *testing.T) {
	t.Parallel()
	for s, want := range map[dimse.Status]gantry.Kind{
		dimse.StatusOutOfResources: gantry.Unavailable, 0xA701: gantry.Unavailable, dimse.StatusMismatch: gantry.Permanent, 0xC001: gantry.Permanent,
		dimse.StatusNotAuthorized: gantry.Denied, dimse.StatusProcessing: gantry.Transient, dimse.StatusCancel: gantry.BadResponse, dimse.StatusNotSupported: gantry.Permanent,
	} {
		if err := findError(s); err == nil || gantry.KindOf(err) != want {
			t.Errorf("%04X: %v", uint16(s), err)
		}
	}
	if err := findError(dimse.StatusSuccess); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]int{"324": 324, "+5": 5, "0": 0, "-3": 0, "": 0, "many": 0, "99999999999": 0} {
		if n, known := count(text); n != want || known != (want > 0) {
			t.Errorf("%q counts %d, %t", text, n, known)
		}
	}
}

// TestArchiveConfig lists the mistakes that a file may make.
func TestArchiveConfig(t *testing.T) {
	t.Parallel()
	good := ArchiveConfig{Host: "pacs.local", AET: "PACS"}
	if found := good.Check(); len(found) != 0 || good.Target().Key() != "dicom://pacs.local:104/PACS" {
		t.Errorf("%+v, %s", found, good.Target().Key())
	}
	for key, c := range map[string]ArchiveConfig{
		"host": {Host: "pacs:104", AET: "PACS"}, "aet": {Host: "pacs", AET: "A\\B"}, "calling": {Host: "pacs", AET: "PACS", Calling: "THIS IS FAR TOO LONG"},
		"tls.cert": {Host: "pacs", AET: "PACS", TLS: TLSConfig{Key: "/key"}},
	} {
		var keys []string
		for _, p := range c.Check() {
			keys = append(keys, p.Key)
		}
		if diff := cmp.Diff([]string{key}, keys); diff != "" {
			t.Error(diff)
		}
		if _, err := NewArchive(t.Context(), c, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%s: %v", key, err)
		}
	}
	good.TLS.CA = filepath.Join(t.TempDir(), strconv.Itoa(1))
	if _, err := NewArchive(t.Context(), good, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
		t.Errorf("without its file: %v", err)
	}
}
