package dicom

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// everywhere is a way out that leads to further targets too.
type everywhere struct{ gantry.Egress }

func (e everywhere) Branch(gantry.Target) (gantry.Egress, bool) { return e, true }

// life is one process that serves a source: it takes requests, and makes reports until it ends.
type life struct {
	*source
	end func()
}

func live(t testing.TB, k *keeper, c SourceConfig) life {
	t.Helper()
	made, err := NewSource(t.Context(), c, everywhere{drivertest.Egress(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*source)
	s.Receive(k)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { s.Watch(ctx, nil) })
	end := sync.OnceFunc(func() { cancel(); g.Wait() })
	t.Cleanup(end)
	return life{s, end}
}

// ask is a peer's request for storage commitment of one instance, on an association that is over by now.
func (l life) ask(t testing.TB, calling, transaction, instance string) dimse.Status {
	t.Helper()
	c := dimse.Commitment{Transaction: transaction, Instances: []dimse.Reference{{Class: "1.2.840.10008.5.1.4.1.1.2", Instance: instance}}}
	mine, r := l.commit(t.Context(), &session{peer: dimse.Peer{Calling: calling}}, c)
	if !mine {
		t.Fatal("it is nobody's")
	}
	return r.Status
}

// recipient is a peer that takes reports.
type recipient struct {
	address string
	got     chan dimse.Commitment

	mu     sync.Mutex
	status []dimse.Status // of the reports that come first; those that follow are taken
}

func (r *recipient) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (r *recipient) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (r *recipient) Reported(_ context.Context, c dimse.Commitment) dimse.Response {
	r.got <- c
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.status) == 0 {
		return dimse.Response{}
	}
	s := r.status[0]
	r.status = r.status[1:]
	return dimse.Response{Status: s}
}
func (r *recipient) Ended(error) {}

// listen has it take reports at an address from now on.
func (r *recipient) listen(t testing.TB, address string, secure *tls.Config) *recipient {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.address, r.got = l.Addr().String(), make(chan dimse.Commitment, 16)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	s := &dimse.Server{TLS: secure, Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		return dimse.Terms{Handler: r, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	g.Go(func() { s.Serve(ctx, l, 100*time.Millisecond) })
	t.Cleanup(func() { cancel(); g.Wait() })
	return r
}

// want waits for a report.
func (r *recipient) want(t testing.TB, transaction string) (c dimse.Commitment) {
	t.Helper()
	select {
	case c = <-r.got:
	case <-time.After(20 * time.Second):
		t.Fatalf("no report of %s came", transaction)
	}
	if c.Transaction != transaction || len(c.Instances)+len(c.Failed) != 1 {
		t.Errorf("%+v, want %s", c, transaction)
	}
	return c
}

func committing(report string) SourceConfig {
	c := sound()
	c.Commit, c.Allow = true, []AllowConfig{{AET: "CT", Report: report}, {AET: "MR"}}
	return c
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// What a peer is owed outlives the process that took its request: the next one makes the report, with what is on record then.
func TestReportOutlivesProcess(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	at := free(t)
	first := live(t, k, committing(at))
	if got := first.ask(t, "CT", "2.25.1", "1.2.3"); got != dimse.StatusSuccess {
		t.Fatalf("%04x", uint16(got))
	}
	eventually(t, "nobody tried", func() bool { return k.owed()[0].Tries > 0 })
	first.end()
	k.mu.Lock()
	k.files["1.2.3"] = nil
	k.mu.Unlock()
	r := (&recipient{}).listen(t, at, nil)
	live(t, k, committing(at))
	if c := r.want(t, "2.25.1"); len(c.Instances) != 1 || c.Instances[0].Instance != "1.2.3" {
		t.Errorf("%+v", c)
	}
	eventually(t, "it is owed yet", func() bool { d := k.owed()[0]; return d.over && d.given == "" })
}

// One that is being made when the process ends is left to the next at once.
func TestReportCutShort(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := live(t, k, committing(l.Addr().String()))
	first.ask(t, "CT", "2.25.1", "1.2.3")
	conn, err := l.Accept() // it is connected, and nobody says anything
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first.end()
	if d := k.owed()[0]; d.over || d.due.After(time.Now()) || d.Tries != 0 {
		t.Errorf("%+v", d)
	}
	r := (&recipient{}).listen(t, "127.0.0.1:0", nil)
	live(t, k, committing(r.address))
	r.want(t, "2.25.1")
}

// What the peer answers counts: what it cannot take now it is told again, what it does not know about is given up.
func TestReportStatus(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	r := (&recipient{status: []dimse.Status{dimse.StatusProcessing, 0, dimse.StatusInvalidArgument}}).listen(t, "127.0.0.1:0", nil)
	l := live(t, k, committing(r.address))
	l.ask(t, "CT", "2.25.1", "1.2.3")
	r.want(t, "2.25.1")
	r.want(t, "2.25.1")
	eventually(t, "it is owed yet", func() bool { d := k.owed()[0]; return d.over && d.given == "" && d.Tries == 1 })
	l.ask(t, "CT", "2.25.2", "1.2.3")
	r.want(t, "2.25.2")
	eventually(t, "it is not given up", func() bool {
		return k.owed()[1].given == codeRefused && k.steps(gantry.VisitUnanswered, codeRefused) == 1
	})
}

// A report is given up, and told of, when its time is over, and where it could go out on the association of the request alone, which is no more.
func TestReportGivenUp(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	l := live(t, k, committing(free(t)))
	l.end()
	for _, calling := range []string{"CT", "CT", "MR"} {
		l.ask(t, calling, "2.25."+strconv.Itoa(len(k.owed())), "1.2.3")
	}
	k.mu.Lock()
	k.debts[1].Age, k.debts[2].Age = reportUntil-time.Hour, reportUntil
	for _, d := range k.debts {
		d.due = time.Now()
	}
	k.mu.Unlock()
	live(t, k, committing(free(t)))
	eventually(t, "not all were tried", func() bool { d := k.owed(); return d[0].Tries == 1 && d[1].over && d[2].over })
	if d := k.owed(); d[0].over || d[1].given != "transient" || d[2].given != codeNoReport {
		t.Errorf("%+v", d)
	}
	if k.steps(gantry.VisitUnanswered, codeNoReport) != 1 || k.steps(gantry.VisitUnanswered, k.owed()[1].given) != 1 {
		t.Errorf("%+v", k.visits)
	}
}

// What cannot be put on record is not taken, nor is what another request has the name of; what is asked again is.
func TestCommitAnswers(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	l := live(t, k, committing(free(t)))
	l.end()
	for i, x := range []struct {
		instance string
		fault    error
		want     dimse.Status
	}{
		{"1.2.3", gantry.Errorf(gantry.Unavailable, "", "no database"), dimse.StatusProcessing},
		{"1.2.3", gantry.Errorf(gantry.Unavailable, gantry.CodeTooMany, "too many"), statusLimited},
		{"1.2.3", nil, dimse.StatusSuccess},
		{"1.2.3", nil, dimse.StatusSuccess},
		{"1.2.4", nil, statusDuplicateTransaction},
	} {
		k.fail(x.fault)
		if got := l.ask(t, "CT", "2.25.1", x.instance); got != x.want {
			t.Errorf("%d: %04x, want %04x", i, uint16(got), uint16(x.want))
		}
	}
	for range maxReports - 2 {
		l.ask(t, "CT", "2.25.1", "1.2.3")
	}
	if got := l.ask(t, "CT", "2.25.1", "1.2.3"); got != statusLimited || len(k.owed()) != 1 {
		t.Errorf("one too many: %04x, %d debts", uint16(got), len(k.owed()))
	}
}

func TestReadRequest(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "\n", "x\n", "1.2\n1.2\n", "1.2\n1.2 x\n", "1.2\n1.2 1.3 1.4\n", "1.2 1.3\n", "1.2\n\n", strings.Repeat("1", 65)} {
		if c, err := readRequest([]byte(bad)); gantry.KindOf(err) != gantry.Permanent || gantry.CodeOf(err) != gantry.CodeMalformed {
			t.Errorf("%q: %+v, %v", bad, c, err)
		}
	}
	if c, err := readRequest([]byte("2.25.7\n1.2 1.3\n1.2 1.4\n")); err != nil || c.Transaction != "2.25.7" || len(c.Instances) != 2 || c.Instances[1].Instance != "1.4" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Reports go out over TLS where the source speaks it: both show a certificate, and the peer is known by the name that the file says of it, or
// by its host. With another name, of another authority, or without TLS, it is told nothing.
func TestReportOverTLS(t *testing.T) {
	t.Parallel()
	authority := dimsetest.NewAuthority(t)
	ours, theirs, strange := authority.Issue(t, "gantry"), authority.Issue(t, "ct-1"), dimsetest.NewAuthority(t).Issue(t, "ct-1")
	for name, c := range map[string]struct {
		at          string
		secure      *tls.Config
		certificate string
		good        bool
	}{
		"by name":           {"127.0.0.2:0", theirs.Config(t), "ct-1", true}, // its certificate is not for this host
		"by host":           {"127.0.0.1:0", theirs.Config(t), "", true},
		"another host":      {"127.0.0.2:0", theirs.Config(t), "", false},
		"another name":      {"127.0.0.1:0", theirs.Config(t), "mr-1", false},
		"another authority": {"127.0.0.1:0", strange.Config(t), "ct-1", false},
		"of ours too":       {"127.0.0.1:0", clientsOf(theirs.Config(t), strange), "ct-1", false},
		"no TLS":            {"127.0.0.1:0", nil, "ct-1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeeper(t)
			r := (&recipient{}).listen(t, c.at, c.secure)
			config := committing(r.address)
			config.Cert, config.Key, config.CA, config.Allow[0].Certificate = ours.Cert, ours.Key, ours.CA, c.certificate
			l := live(t, k, config)
			l.ask(t, "CT", "2.25.1", "1.2.3")
			if c.good {
				r.want(t, "2.25.1")
				return
			}
			eventually(t, "nobody tried", func() bool { return k.owed()[0].Tries > 0 })
			if len(r.got) != 0 || k.owed()[0].over {
				t.Errorf("%d reports came, %+v", len(r.got), k.owed())
			}
		})
	}
}

// clientsOf has a server take certificates of another's authority alone.
func clientsOf(c *tls.Config, other dimsetest.Identity) *tls.Config {
	c.ClientCAs = x509.NewCertPool()
	pair, err := tls.LoadX509KeyPair(other.Cert, other.Key)
	if err == nil {
		c.ClientCAs.AddCert(pair.Leaf)
	}
	return c
}
