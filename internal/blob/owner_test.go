package blob

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// house is a place of a store, of either kind, as several databases see it.
type house struct {
	open    func(database string, l Ledger) (store, error)
	claim   func(database string) error
	inspect func() (About, error)
	scrawl  func(text string) // over the owner's paper
}

func inBothHouses(t *testing.T, test func(t *testing.T, h house)) {
	t.Run("dir", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "store")
		test(t, house{
			open: func(database string, l Ledger) (store, error) {
				o := testOptions(dir)
				o.Database, o.Ledger = database, l
				d, err := OpenDir(t.Context(), o)
				if err == nil {
					t.Cleanup(func() { d.Close() })
				}
				return d, err
			},
			claim:   func(database string) error { return ClaimDir(t.Context(), dir, database) },
			inspect: func() (About, error) { return Inspect(dir, testKey) },
			scrawl: func(text string) {
				if err := os.WriteFile(filepath.Join(dir, ownerFile), []byte(text), 0o600); err != nil {
					t.Error(err)
				}
			},
		})
	})
	t.Run("bucket", func(t *testing.T) {
		t.Parallel()
		p := newPail(t, s3test.Start(t))
		test(t, house{
			open: func(database string, l Ledger) (store, error) {
				o := p.options()
				o.Database, o.Ledger = database, l
				return OpenBucket(t.Context(), o)
			},
			claim:   func(database string) error { return ClaimBucket(t.Context(), p.Place, p.rt, database) },
			inspect: func() (About, error) { return InspectBucket(t.Context(), p.Place, p.rt, testKey) },
			scrawl:  func(text string) { p.put("one/store/"+ownerKey, []byte(text)) },
		})
	})
}

// mine skips the look at the owner.
type mine struct{ store }

// Owned says yes.
func (mine) Owned(context.Context) error { return nil }

// TestOneDatabaseOwnsAStore refuses a second database before it can collect what the first refers to; without that look the bytes
// would be lost, which the control shows. A claim lets the second in and the first out.
func TestOneDatabaseOwnsAStore(t *testing.T) {
	t.Parallel()
	inBothHouses(t, func(t *testing.T, h house) {
		first, second := newBooks(t), newBooks(t)
		s, err := h.open("first", first)
		if err != nil {
			t.Fatal(err)
		}
		want := body(maxRecord+1, 1)
		where := keep(t, s, want)
		first.refer(where)
		_, err = h.open("second", second)
		wantErr(t, err, gantry.Illegal, CodeOtherDatabase)
		if !strings.Contains(err.Error(), "gantry blobs claim") || !strings.Contains(err.Error(), "database first") {
			t.Errorf("the error says neither whose the store is nor what to do: %v", err)
		}
		later := Collection{Whole: true, Now: func() time.Time { return time.Now().Add(24 * time.Hour) }}
		stranger, err := h.open("", second) // as it was before stores had owners
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Collect(t.Context(), second, stranger, later); gantry.CodeOf(err) != CodeOtherDatabase {
			t.Errorf("a stranger collects: %v", err)
		}
		if err := h.claim("second"); err != nil {
			t.Fatal(err)
		}
		heir, err := h.open("second", second)
		if err != nil {
			t.Fatal(err)
		}
		if done := second.collect(heir, Collection{}); done != (Collected{}) {
			t.Errorf("a claim alone lets collect %+v", done)
		}
		if _, err := Collect(t.Context(), first, s, later); gantry.CodeOf(err) != CodeOtherDatabase {
			t.Errorf("who lost the store collects: %v", err)
		}
		_, err = h.open("first", first)
		wantErr(t, err, gantry.Illegal, CodeOtherDatabase)
		if got := fetch(t, heir, where); !bytes.Equal(got, want) {
			t.Error("other bytes after the claim")
		}
		for range 3 { // the control: adopted, given a tombstone, deleted
			second.collect(mine{stranger}, later)
			second.old("")
		}
		if _, err := s.Open(t.Context(), where); gantry.CodeOf(err) != CodeMissing {
			t.Errorf("without the look at the owner the blob of the first database is still there: %v", err)
		}
	})
}

// TestOwnerIsMadeOnce has ten processes of two databases come at once: one database gets the store, with all of its processes.
func TestOwnerIsMadeOnce(t *testing.T) {
	t.Parallel()
	inBothHouses(t, func(t *testing.T, h house) {
		if _, err := h.inspect(); gantry.CodeOf(err) != CodeMissing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a store that was never opened: %v", err)
		}
		if err := h.claim("one"); gantry.CodeOf(err) != CodeMissing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a store that was never opened is claimed: %v", err)
		}
		in := make([]bool, 10)
		var g errgroup.Group
		for i := range in {
			g.Go(func() error {
				_, err := h.open([]string{"one", "two"}[i%2], nil)
				if in[i] = err == nil; gantry.CodeOf(err) == CodeOtherDatabase {
					err = nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		about, err := h.inspect()
		if err != nil || about.ID == "" || time.Since(about.Owner.Since) > time.Hour {
			t.Fatalf("%+v: %v", about, err)
		}
		for i := range in {
			if in[i] != (about.Owner.Database == []string{"one", "two"}[i%2]) {
				t.Errorf("let in: %t; the store belongs to %s", in, about.Owner.Database)
			}
		}
		for _, text := range []string{"", "{}", "[", `{"database":""}`, `{"database":"a\u001b[2Jb"}`, `{"database":"DOE^JANE"}`, `{"database":"` + strings.Repeat("a", maxStoreID+1) + `"}`, "{" + strings.Repeat(" ", 1<<20) + "}"} {
			h.scrawl(text)
			_, err := h.open("one", nil)
			wantErr(t, err, gantry.Illegal, gantry.CodeMalformed)
		}
		if err := h.claim("three"); err != nil {
			t.Fatal(err)
		}
		if about, err := h.inspect(); err != nil || about.Owner.Database != "three" {
			t.Errorf("%+v: %v", about, err)
		}
	})
}

// TestBucketWithoutConditions: a new store is made, and owned, on a server that knows no If-None-Match and says so.
func TestBucketWithoutConditions(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	o := p.options()
	o.Transport = &badServer{RoundTripper: o.Transport, before: func(_ int64, r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != "" {
			return refusal(r, http.StatusNotImplemented, "NotImplemented", ""), nil
		}
		return nil, nil
	}}
	for _, database := range []string{"db-1", "db-1", "db-2"} {
		o.Database = database
		b, err := OpenBucket(t.Context(), o)
		if database == "db-2" {
			wantErr(t, err, gantry.Illegal, CodeOtherDatabase)
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		keep(t, b, body(1<<20, 1))
		b.Close()
	}
}

// FuzzOwner reads a store's papers as anybody may have left them: what is taken can be compared and printed.
func FuzzOwner(f *testing.F) {
	f.Add([]byte(`{"database":"one","since":"2026-01-02T03:04:05Z"}`))
	f.Add(ownerText("two", time.Unix(0, 0)))
	f.Add([]byte(`{"database":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := parseOwner(text)
		if err != nil {
			if gantry.CodeOf(err) != gantry.CodeMalformed || strings.Contains(err.Error(), "database") {
				t.Errorf("%v", err)
			}
			return
		}
		if o.Database == "" || len(o.Database) > maxStoreID || o.hold("s", o.Database) != nil || o.hold("s", o.Database+"x") == nil || o.hold("s", "") == nil || strings.ContainsFunc(o.Database, func(r rune) bool { return !strings.ContainsRune(idLetters, r) }) {
			t.Errorf("%+v", o)
		}
	})
}
