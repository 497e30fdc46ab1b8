package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestLedgerSaysWhatIsOver follows failures of parts through reports, a database that was away, and another process.
func TestLedgerSaysWhatIsOver(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	l := pages(t, store, "key", "p/in", 0)
	broken := gantry.Errorf(gantry.Unavailable, "slow_down", "no")
	is := func(name, part string, over bool) {
		t.Helper()
		l.write(t.Context())
		list, err := store.Sources(t.Context())
		if err != nil || len(list) != 1 || list[0].LastError == nil {
			t.Fatalf("%s: %+v, %v", name, list, err)
		}
		if e := list[0].LastError; e.Part != part || (e.Over != nil) != over || over && e.Over.Before(e.At) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	l.Worked("sqs")
	l.Failed("sqs", broken)
	is("it worked before", "sqs", false)
	l.Worked("poll")
	is("another works", "sqs", false)
	l.Worked("sqs")
	is("it works again", "sqs", true)
	l.Failed("poll", broken)
	l.Worked("poll")
	is("both in one report", "poll", true)
	l.Failed("poll", broken)
	out, _ := l.pending(l.began)
	l.Worked("poll")
	l.restore(out)
	is("the database was away", "poll", true)
	l.Failed(gantry.PartObject, broken)
	is("an object cannot be read", gantry.PartObject, false)
	l = pages(t, store, "key", "p/in", 0)
	l.took("poll", gantry.Object{}, l.began)
	is("another process takes one", gantry.PartObject, true)
	l.visited(gantry.Visit{Step: gantry.VisitBroken, Code: "association_aborted", At: l.began})
	l.visited(gantry.Visit{Step: gantry.VisitBegan, At: l.began})
	is("another association begins", partAssociation, false)
	l.visited(gantry.Visit{Step: gantry.VisitLeft, At: l.began})
	is("and ends well", partAssociation, true)
	l.write(t.Context())
	if l.Worked(partAssociation); l.dirty {
		t.Error("what is known to work is reported again and again")
	}
}

// TestLedgerHolds: a folder that is watched for a while works, though no file comes; one that cannot be watched does not.
func TestLedgerHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := pages(t, nil, "key", "p/in", 0)
		l.holds()()
		stop := l.holds()
		synctest.Wait()
		if len(l.report.Worked) != 0 {
			t.Errorf("at once: %+v", l.report.Worked)
		}
		time.Sleep(holdsAfter)
		synctest.Wait()
		stop()
		if len(l.report.Worked) != 1 || l.report.Worked[0].Part != "folder" {
			t.Errorf("%+v", l.report.Worked)
		}
		l = pages(t, nil, "key", "p/in", 0)
		l.feed.source = struct{ gantry.Noting }{}
		stop = l.holds()
		time.Sleep(2 * holdsAfter)
		synctest.Wait()
		stop()
		if len(l.report.Worked) != 0 {
			t.Errorf("of a source that tells so itself: %+v", l.report.Worked)
		}
	})
}
