package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// served opens a port at which k takes instances, and gives the arguments by which dcmtk reaches it.
func served(t testing.TB, k *keeper, change func(*SourceConfig)) (at []string, stop func()) {
	t.Helper()
	c := sound()
	c.Listen, c.MaxAssociations, c.MaxPerPeer, c.MaxMiB = free(t), 64, 64, 64
	change(&c)
	stop = serve(t, ajar(t, func() (gantry.Blobs, error) { return k.blobs, nil }, open(t, k, c)))
	host, port, _ := net.SplitHostPort(c.Listen)
	return []string{"-aec", c.AET, host, port}, stop
}

func TestPeersSend(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(at []string, s dimsetest.Study){
		"dcmsend":  func(at []string, s dimsetest.Study) { dimsetest.Must(t, "dcmsend", append(at, "+sd", s.Dir)...) },
		"storescu": func(at []string, s dimsetest.Study) { dimsetest.Must(t, "storescu", append(at, "+sd", s.Dir)...) },
		"gdcmscu": func(at []string, s dimsetest.Study) { // whose exit code says nothing: see dimsetest
			dimsetest.Run(t, "gdcmscu", append([]string{"--store", "--call", at[1], at[2], at[3]}, s.Files...)...)
		},
	} {
		k := newKeeper(t)
		at, stop := served(t, k, func(*SourceConfig) {})
		study := dimsetest.NewStudy(t, 5, 64)
		dimsetest.Must(t, "echoscu", at...)
		send(at, study)
		stop()
		for i, file := range study.Files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			checkKept(t, fmt.Sprint(name, " ", i), k, split(t, b))
		}
		if k.count() != 5 || k.steps(gantry.VisitLeft, "") != 2 {
			t.Errorf("%s: %d came, %+v", name, k.count(), k.visits)
		}
	}
}

func TestPeersAreRejected(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	at, _ := served(t, k, func(c *SourceConfig) { c.Allow, c.MaxPerPeer = []AllowConfig{{AET: "CT"}}, 1 })
	if r := dimsetest.Run(t, "echoscu", append([]string{"-aet", "CT"}, at...)...); r.Exit != 0 {
		t.Errorf("who is allowed: %s", r.Output)
	}
	if r := dimsetest.Run(t, "echoscu", append([]string{"-aet", "MR"}, at...)...); r.Exit == 0 || !strings.Contains(r.Output, "Calling AE Title Not Recognized") {
		t.Errorf("who is not allowed: %s", r.Output)
	}
	if r := dimsetest.Run(t, "echoscu", append([]string{"-aet", "CT", "-aec", "PACS"}, at[2:]...)...); r.Exit == 0 || !strings.Contains(r.Output, "Called AE Title Not Recognized") {
		t.Errorf("another title: %s", r.Output)
	}
	a := dial(t, at, "CT", nil)
	if r := dimsetest.Run(t, "echoscu", append([]string{"-aet", "CT"}, at...)...); r.Exit == 0 || !strings.Contains(r.Output, "Local Limit Exceeded") {
		t.Errorf("one too many: %s", r.Output)
	}
	a.Abort()
	<-a.Done()
	for end := time.Now().Add(5 * time.Second); k.steps(gantry.VisitBroken, "aborted")+k.steps(gantry.VisitBroken, codeBroken) == 0; {
		if time.Now().After(end) {
			t.Fatalf("%+v", k.visits)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// dial asks for an association by which CT and commitment can be spoken of.
func dial(t testing.TB, at []string, calling string, over *tls.Config) *dimse.Association {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(at[2], at[3]))
	if err != nil {
		t.Fatal(err)
	}
	if over != nil {
		conn = tls.Client(conn, over)
	}
	a, err := dimse.Request(t.Context(), conn, dimse.Params{Calling: calling, Called: at[1], Contexts: []dimse.Context{
		{Abstract: "1.2.840.10008.5.1.4.1.1.2", Transfer: []string{dimse.ExplicitLE}},
		{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ExplicitLE}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Abort)
	return a
}

// Over TLS a peer is known by its certificate; one without, or of another authority, gets no association.
func TestPeersOverTLS(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	authority := dimsetest.NewAuthority(t)
	server, ct, mr := authority.Issue(t, "gantry"), authority.Issue(t, "ct-1"), authority.Issue(t, "mr-1")
	stranger := dimsetest.NewAuthority(t).Issue(t, "ct-1")
	at, _ := served(t, k, func(c *SourceConfig) {
		c.Cert, c.Key, c.CA, c.Allow = server.Cert, server.Key, server.CA, []AllowConfig{{Certificate: "ct-1"}}
	})
	study := dimsetest.NewStudy(t, 2, 64)
	dimsetest.Must(t, "storescu", append(append(ct.Arguments(), at...), "+sd", study.Dir)...)
	if k.count() != 2 {
		t.Errorf("%d came", k.count())
	}
	for name, args := range map[string][]string{"another certificate": mr.Arguments(), "another authority": stranger.Arguments(), "no TLS": nil} {
		if r := dimsetest.Run(t, "echoscu", append(args, at...)...); r.Exit == 0 {
			t.Errorf("%s: it is let in", name)
		}
	}
	if k.steps(gantry.VisitRefused, codeCalling) != 1 {
		t.Errorf("%+v", k.visits)
	}
}

// reporting is a peer's own handler, which is told what is committed.
type reporting struct{ got chan dimse.Commitment }

func (r reporting) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (r reporting) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (r reporting) Reported(_ context.Context, c dimse.Commitment) dimse.Response {
	r.got <- c
	return dimse.Response{}
}
func (r reporting) Ended(error) {}

// What is on record is committed, what is not is said to be missing: on the association on which it was asked for.
func TestCommitment(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	c := sound()
	c.Listen, c.Commit = free(t), true
	s := open(t, k, c)
	serve(t, ajar(t, func() (gantry.Blobs, error) { return k.blobs, nil }, s))
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { s.Watch(ctx, nil) })
	defer g.Wait()
	defer cancel()
	conn, err := net.Dial("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	o := series(t, 1, 64)[0]
	a, err := dimse.Request(t.Context(), conn, dimse.Params{Calling: "CT", Called: c.AET, Contexts: []dimse.Context{
		{Abstract: o.class, Transfer: []string{o.syntax}}, {Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ExplicitLE}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	told := reporting{make(chan dimse.Commitment, 1)}
	a.Handle(told)
	r := commanded(o)
	r.Context, _ = a.Find(o.class, o.syntax)
	if got, err := a.Store(t.Context(), r); err != nil || got.Status != dimse.StatusSuccess {
		t.Fatalf("%+v, %v", got, err)
	}
	ask := dimse.Commitment{Transaction: "2.25.1", Instances: []dimse.Reference{{Class: o.class, Instance: o.uid}, {Class: o.class, Instance: "1.2.3"}}}
	if got, err := a.Commit(t.Context(), ask); err != nil || got.Status != dimse.StatusSuccess {
		t.Fatalf("%+v, %v", got, err)
	}
	select {
	case c := <-told.got:
		if c.Transaction != "2.25.1" || len(c.Instances) != 1 || c.Instances[0].Instance != o.uid || len(c.Failed) != 1 || c.Failed[0].Instance != "1.2.3" || c.Failed[0].Reason != reasonNoInstance {
			t.Errorf("%+v", c)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no report came")
	}
}

// An address that is taken is told of at once; a place that comes later is listened at as well.
func TestListen(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := sound()
	c.Listen = l.Addr().String()
	blobs := func() (gantry.Blobs, error) { return k.blobs, nil }
	if err := ajar(t, blobs, open(t, k, c)).Serve(t.Context()); gantry.CodeOf(err) != CodeListen {
		t.Errorf("an address that is taken: %v", err)
	}
	p := ajar(t, blobs)
	stop := serve(t, p)
	if err := p.Add(open(t, k, c)); gantry.CodeOf(err) != CodeListen {
		t.Errorf("an address that is taken, later: %v", err)
	}
	c.Listen = free(t)
	if err := p.Add(open(t, k, c)); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(c.Listen)
	dimsetest.Must(t, "echoscu", "-aec", c.AET, host, port)
	stop()
	if _, err := net.Dial("tcp", c.Listen); err == nil {
		t.Error("it listens after its end")
	}
}

// Every sound object of the corpus arrives as it was sent: what our own sender sends, which changes nothing, in the very bytes of
// the file; what dcmsend sends, which writes data sets anew, in those that reach storescp, eight at once.
func TestPeersSendCorpus(t *testing.T) {
	t.Parallel()
	names, dir := valid(t)
	ours, theirs := newKeeper(t), newKeeper(t)
	at, stop := served(t, ours, func(*SourceConfig) {})
	for _, name := range names {
		o := corpusObject(t, filepath.Join(dir, name))
		switch odd := len(o.set)%2 == 1; {
		case odd && o.syntax == dimse.DeflatedLE:
			o.set = append(o.set, 0) // as it is sent
		case odd:
			continue // no message can carry it
		}
		push(t, at, o)
		if got := split(t, ours.files[o.uid]).set; !bytes.Equal(got, o.set) {
			t.Errorf("%s: %d bytes came of %d", name, len(got), len(o.set))
		}
	}
	stop()
	at, stop = served(t, theirs, func(*SourceConfig) {})
	beside := dimsetest.Storescp(t, dimsetest.SCP{Exact: true, Fork: true, Args: []string{"+uf"}})
	var g sync.WaitGroup
	for part := range slices.Chunk(names, (len(names)+7)/8) {
		var files []string
		for _, name := range part {
			files = append(files, filepath.Join(dir, name))
		}
		for _, to := range [][]string{at, append([]string{"-aec", "STORESCP"}, beside.At()...)} {
			g.Go(func() {
				dimsetest.Run(t, "dcmsend", slices.Concat(to, []string{"--no-halt", "--decompress-never"}, files)...)
			})
		}
	}
	g.Wait()
	stop()
	files, err := beside.Received()
	if err != nil || len(files) < len(names)*9/10 || theirs.count() < len(files) {
		t.Fatalf("%d came, and %d to storescp, of %d: %v", theirs.count(), len(files), len(names), err)
	}
	came := map[gantry.Digest]bool{}
	for _, x := range theirs.got {
		came[x.SHA] = true
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Of a UID whose VR is UN dcmsend says the first byte, in hexadecimal: that is no SOP class, and storescp does not mind.
		o := split(t, b)
		if has := came[sha256.Sum256(o.set)]; has == (o.class == "31") {
			t.Errorf("an object in %s that is said to be of class %s came: %t", o.syntax, o.class, has)
		}
	}
}

// corpusObject reads a file as the object that its data set says it is.
func corpusObject(t testing.TB, file string) object {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	o := split(t, b)
	o.class, o.uid = info.SOPClass, info.SOPInstance
	return o
}

// push sends an object on an association of its own.
func push(t testing.TB, at []string, o object) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(at[2], at[3]))
	if err != nil {
		t.Fatal(err)
	}
	a, err := dimse.Request(t.Context(), conn, dimse.Params{Calling: "OURS", Called: at[1], Contexts: []dimse.Context{{Abstract: o.class, Transfer: []string{o.syntax}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	r := commanded(o)
	r.Context, _ = a.Find(o.class, o.syntax)
	if got, err := a.Store(t.Context(), r); err != nil || got.Status != dimse.StatusSuccess {
		t.Errorf("an object in %s: %+v, %v", o.syntax, got, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
