package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// entered is a session of a peer at a source whose instances k takes.
func entered(t testing.TB, k *keeper, c SourceConfig) *session {
	t.Helper()
	p := ajar(t, func() (gantry.Blobs, error) { return k.blobs, nil }, open(t, k, c))
	terms, err := p.doors[c.Listen].admit(t.Context(), dimse.Proposal{Peer: peer("ECHO1", c.AET, "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	return terms.Handler.(*session)
}

func peer(calling, called, address string) dimse.Peer {
	return dimse.Peer{Calling: calling, Called: called, Address: netip.AddrPortFrom(netip.MustParseAddr(address), 4711)}
}

// commanded is an instance as its command says it is.
func commanded(o object) dimse.StoreRequest {
	return dimse.StoreRequest{Context: dimse.Accepted{ID: 1, Abstract: o.class, Transfer: o.syntax}, Class: o.class, Instance: o.uid, Data: bytes.NewReader(o.set)}
}

// checkKept holds what was kept of an instance to what was sent.
func checkKept(t *testing.T, name string, k *keeper, o object) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	file := k.files[o.uid]
	got := split(t, file)
	if !bytes.Equal(got.set, o.set) || got.uid != o.uid || got.class != o.class || got.syntax != o.syntax {
		t.Errorf("%s: what is kept is not what was sent: %d bytes of %d", name, len(got.set), len(o.set))
	}
	i := slices.IndexFunc(k.got, func(x gantry.Inbound) bool { return x.Ref == o.uid })
	if i < 0 {
		t.Errorf("%s: it did not come", name)
		return
	}
	x := k.got[i]
	if sum := sha256.Sum256(o.set); x.SHA != sum || x.Version != x.SHA.String() || x.Size != int64(len(o.set)) || x.Ahead != gantry.Ahead(o.uid) || !x.Staged.SHA().IsZero() || x.Tags["SOPInstanceUID"] != o.uid {
		t.Errorf("%s: %d bytes, version %s", name, x.Size, x.Version)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	s := entered(t, k, sound())
	for i, o := range series(t, 3, 64) {
		r := commanded(o)
		if i == 1 {
			r.Data = iotest.OneByteReader(r.Data)
		}
		if got := s.Store(t.Context(), r); got.Status != dimse.StatusSuccess {
			t.Fatalf("%d: %+v", i, got)
		}
		checkKept(t, "series", k, o)
	}
	s.Ended(nil)
	if k.steps(gantry.VisitBegan, "") != 1 || k.steps(gantry.VisitLeft, "") != 1 || k.visits[1].In != 3 || k.visits[1].Not != 0 {
		t.Errorf("%+v", k.visits)
	}
}

// Every sound object of the corpus is kept as it came, whatever its transfer syntax.
func TestStoreCorpus(t *testing.T) {
	t.Parallel()
	names, dir := valid(t)
	k := newKeeper(t)
	c := sound()
	c.MaxMiB = 64
	s := entered(t, k, c)
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o := split(t, b)
		o.class, o.uid = info.SOPClass, info.SOPInstance
		if at := accept(dimse.Context{Abstract: o.class, Transfer: []string{o.syntax}}, false); at != 0 {
			t.Errorf("%s: a context of class %s and syntax %s is answered by %d", name, o.class, o.syntax, at)
		}
		if got := s.Store(t.Context(), commanded(o)); got.Status != dimse.StatusSuccess {
			t.Errorf("%s: %04x %s", name, uint16(got.Status), got.Comment)
			continue
		}
		k.mu.Lock()
		same := bytes.Equal(split(t, k.files[o.uid]).set, o.set)
		k.mu.Unlock()
		if !same {
			t.Errorf("%s: what is kept is not what was sent", name)
		}
	}
}

// What is not what its command says, or is broken, is answered so that nobody takes it for stored, and leaves nothing behind.
func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	o := series(t, 1, 64)[0]
	broken := errors.New("the line broke")
	for name, c := range map[string]struct {
		change func(*dimse.StoreRequest)
		fault  error
		status dimse.Status
		code   gantry.Code
	}{
		"path":           {func(r *dimse.StoreRequest) { r.Instance = "../../etc/passwd" }, nil, dimse.StatusInvalidInstance, codeBadUID},
		"zero byte":      {func(r *dimse.StoreRequest) { r.Instance = "1.2\x00.3" }, nil, dimse.StatusInvalidInstance, codeBadUID},
		"slash":          {func(r *dimse.StoreRequest) { r.Instance = "1.2/3" }, nil, dimse.StatusInvalidInstance, codeBadUID},
		"long":           {func(r *dimse.StoreRequest) { r.Instance = strings.Repeat("1", 65) }, nil, dimse.StatusInvalidInstance, codeBadUID},
		"bad class":      {func(r *dimse.StoreRequest) { r.Class = "CT" }, nil, dimse.StatusInvalidInstance, codeBadUID},
		"other instance": {func(r *dimse.StoreRequest) { r.Instance = "1.2.3" }, nil, dimse.StatusCannotUnderstand, codeInstanceMismatch},
		"other class":    {func(r *dimse.StoreRequest) { r.Class = "1.2.840.10008.5.1.4.1.1.4" }, nil, dimse.StatusMismatch, codeClassMismatch},
		"cut":            {func(r *dimse.StoreRequest) { r.Data = bytes.NewReader(o.set[:len(o.set)-9]) }, nil, dimse.StatusCannotUnderstand, gantry.CodeTruncated},
		"empty":          {func(r *dimse.StoreRequest) { r.Data = bytes.NewReader(nil) }, nil, dimse.StatusCannotUnderstand, dicom.CodeMissingUID},
		"other syntax":   {func(r *dimse.StoreRequest) { r.Context.Transfer = dimse.ExplicitBE }, nil, dimse.StatusCannotUnderstand, ""},
		"too large": {func(r *dimse.StoreRequest) {
			r.Data = io.MultiReader(bytes.NewReader(o.set), bytes.NewReader(make([]byte, 1<<20)))
		}, nil, dimse.StatusCannotUnderstand, gantry.CodeTooLarge},
		"line": {func(r *dimse.StoreRequest) {
			r.Data = io.MultiReader(bytes.NewReader(o.set[:700]), iotest.ErrReader(broken))
		}, nil, dimse.StatusOutOfResources, "transient"},
		"no database": {func(*dimse.StoreRequest) {}, errors.New("connection refused"), dimse.StatusOutOfResources, ""},
		"full":        {func(*dimse.StoreRequest) {}, gantry.Errorf(gantry.Unavailable, "no_space", "write"), dimse.StatusOutOfResources, ""},
		"denied disk": {func(*dimse.StoreRequest) {}, gantry.Errorf(gantry.Denied, "", "write"), dimse.StatusOutOfResources, ""},
		"duplicate":   {func(*dimse.StoreRequest) {}, gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "other bytes"), dimse.StatusDuplicate, ""},
		"no rule":     {func(*dimse.StoreRequest) {}, gantry.Errorf(gantry.Illegal, gantry.CodeNoRoute, "no rule"), dimse.StatusNotAuthorized, ""},
		"bad row":     {func(*dimse.StoreRequest) {}, gantry.Errorf(gantry.Illegal, "bad_row", "row"), dimse.StatusCannotUnderstand, ""},
	} {
		k := newKeeper(t)
		s := entered(t, k, sound())
		k.fail(c.fault)
		r := commanded(o)
		c.change(&r)
		got := s.Store(t.Context(), r)
		if got.Status != c.status || strings.ContainsAny(got.Comment, " /") || len(k.files) != 0 {
			t.Errorf("%s: %04x %q, want %04x", name, uint16(got.Status), got.Comment, uint16(c.status))
		}
		if c.code != "" && k.steps(gantry.VisitNotTaken, c.code) != 1 {
			t.Errorf("%s: %+v was told", name, k.visits)
		}
		k.fail(nil)
		if got := s.Store(t.Context(), commanded(o)); got.Status != dimse.StatusSuccess {
			t.Errorf("%s: afterwards %04x", name, uint16(got.Status))
		}
		s.Ended(broken)
		if last := k.visits[len(k.visits)-1]; last.Step != gantry.VisitBroken || last.In != 1 || last.Not != 1 || last.Code != codeBroken {
			t.Errorf("%s: at the end %+v", name, last)
		}
	}
}

// Without a place for bytes, as between two leases, nothing is read and the sender is asked to try again.
func TestStoreNowhere(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	away := gantry.Errorf(gantry.Unavailable, "no_lease", "between two leases")
	p := ajar(t, func() (gantry.Blobs, error) { return nil, away }, open(t, k, sound()))
	terms, err := p.doors[sound().Listen].admit(t.Context(), dimse.Proposal{Peer: peer("A", "GANTRY", "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	r := commanded(series(t, 1, 64)[0])
	r.Data = iotest.ErrReader(errors.New("read"))
	if got := terms.Handler.Store(t.Context(), r); got.Status != dimse.StatusOutOfResources || got.Comment != "no_lease" {
		t.Errorf("%+v", got)
	}
}

// waiter is a desk that takes some instances, as a processor that awaits results does.
type waiter struct {
	uid   string
	place Place
	got   []string
}

func (w *waiter) Called() (Place, Desk, bool) { return w.place, w, true }

func (w *waiter) Take(_ context.Context, in *Instance) (bool, dimse.Response) {
	if in.UID != w.uid {
		return false, dimse.Response{}
	}
	w.got = append(w.got, in.UID)
	return true, dimse.Response{Status: dimse.StatusSuccess}
}

func (w *waiter) Commit(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

func (w *waiter) Reported(_ context.Context, _ dimse.Peer, c dimse.Commitment) (bool, dimse.Response) {
	return c.Transaction == w.uid, dimse.Response{Status: dimse.StatusSuccess}
}

// Who waits for an instance is asked before the source, which takes everything; where there is none, nobody does.
func TestStoreInTurn(t *testing.T) {
	t.Parallel()
	list := series(t, 2, 64)
	k := newKeeper(t)
	w := &waiter{uid: list[0].uid, place: Place{Listen: sound().Listen, AET: "GANTRY"}}
	p := ajar(t, func() (gantry.Blobs, error) { return k.blobs, nil }, open(t, k, sound()), w)
	enter := func() *session {
		terms, err := p.doors[sound().Listen].admit(t.Context(), dimse.Proposal{Peer: peer("A", "GANTRY", "127.0.0.1")})
		if err != nil {
			t.Fatal(err)
		}
		return terms.Handler.(*session)
	}
	s := enter()
	for _, o := range list {
		if got := s.Store(t.Context(), commanded(o)); got.Status != dimse.StatusSuccess {
			t.Fatalf("%+v", got)
		}
	}
	if len(w.got) != 1 || k.count() != 1 || k.got[0].Ref != list[1].uid {
		t.Errorf("the waiter took %v, the source %d", w.got, k.count())
	}
	if r := s.Reported(t.Context(), dimse.Commitment{Transaction: w.uid}); r.Status != dimse.StatusSuccess {
		t.Errorf("%+v", r)
	}
	if r := s.Reported(t.Context(), dimse.Commitment{Transaction: "1.2"}); r.Status == dimse.StatusSuccess {
		t.Error("somebody takes a report that nobody asked for")
	}
	if r := s.Commit(t.Context(), dimse.Commitment{}); r.Status != dimse.StatusNotSupported {
		t.Errorf("%+v", r)
	}
	alone := ajar(t, func() (gantry.Blobs, error) { return k.blobs, nil }, w)
	terms, err := alone.doors[sound().Listen].admit(t.Context(), dimse.Proposal{Peer: peer("A", "GANTRY", "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if got := terms.Handler.Store(t.Context(), commanded(list[1])); got.Status != dimse.StatusNotAuthorized {
		t.Errorf("nobody waits for it: %+v", got)
	}
}
