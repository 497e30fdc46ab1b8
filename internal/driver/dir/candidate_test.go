package dir

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever is put off, brought forward or forgotten: each candidate comes up once, when it is due.
func TestQueue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(0, 0)
	var q queue
	want := map[*candidate]time.Time{}
	all := make([]*candidate, 20)
	for i := range all {
		all[i] = &candidate{}
	}
	for range 20_000 {
		c := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0, 1:
			want[c] = now.Add(time.Duration(r.IntN(50)+1) * time.Second)
			q.schedule(c, want[c])
		case 2:
			c.queued = time.Time{} // as drop does
			delete(want, c)
		case 3:
			now = now.Add(time.Duration(r.IntN(10)) * time.Second)
			for c := q.take(now); c != nil; c = q.take(now) {
				if due, ok := want[c]; !ok || due.After(now) {
					t.Fatalf("came up at %s, due %s, %t", now, due, ok)
				}
				delete(want, c)
			}
			for _, due := range want {
				if !due.After(now) {
					t.Fatalf("due at %s, not there at %s", due, now)
				}
			}
		}
	}
	if len(q) > 40*len(all) {
		t.Errorf("%d turns for %d candidates", len(q), len(all))
	}
}

// The same size and time under the same name are another file if they are.
func TestStamp(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	stampAt := func(name string) stamp {
		t.Helper()
		info, err := os.Lstat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return stampOf(info)
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	for _, name := range []string{"a", "b"} {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := stampAt("a"), stampAt("b")
	if a != stampAt("a") || a == b || a.String() == b.String() {
		t.Errorf("stamps %s and %s", a, b)
	}
	if a.size != 1 || a.mtime != at.UnixNano() || a.inode == 0 {
		t.Errorf("stamp %+v", a)
	}
	if err := os.Chtimes(filepath.Join(folder, "a"), at, at.Add(time.Nanosecond)); err != nil {
		t.Fatal(err)
	}
	if a == stampAt("a") {
		t.Error("a nanosecond does not count")
	}
}
