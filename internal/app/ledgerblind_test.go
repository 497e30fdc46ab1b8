package app

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestLedgerBlind: until a source can be looked at again it counts as not watched, and what is collected of it is put off by that time then.
func TestLedgerBlind(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	l := pages(t, store, "key", "p/in", 0)
	l.feed.collect = &gantry.Collect{}
	is := func(name, what string) {
		t.Helper()
		l.write(t.Context())
		var is bool
		if err := store.Pool().QueryRow(t.Context(), `select `+what+` from source_state cross join collection`).Scan(&is); err != nil || !is {
			t.Errorf("%s: it is not that %s; %v", name, what, err)
		}
	}
	overdue := func() {
		t.Helper()
		if _, err := store.Pool().Exec(t.Context(), `update collection set last_at = clock_timestamp() - interval '5 min', due = clock_timestamp() - interval '1 s'`); err != nil {
			t.Fatal(err)
		}
	}
	minutesAgo := func() { // the source was watched, and a file came a moment before
		t.Helper()
		if _, err := store.Pool().Exec(t.Context(), `with s as (update source_state set watched_at = clock_timestamp() - interval '5 min')
			update collection set last_at = clock_timestamp() - interval '5 min 1 s', due = clock_timestamp() - interval '4 min 1 s'`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Pool().Exec(t.Context(), `with v as (insert into pipeline_version(name, version, resolved, extracting_us) values ('p', sha256('p'), '{}', 0) returning id)
		insert into collection(pipeline, key_mac, source, version, lane, due, cap, reason, last_at) select 'p', '\x01', 'p/in', id, 1, now(), now() + interval '1 h', 'quiet', now() from v`); err != nil {
		t.Fatal(err)
	}
	const away, here, putOff = "watched_at < now() - interval '4 min'", "watched_at > now() - interval '4 min'", "due between now() + interval '50 s' and now() + interval '1 min'"
	broken := gantry.Errorf(gantry.Unavailable, "slow_down", "no")
	is("at first", here)
	minutesAgo()
	is("nobody reported, as where the process stood still or the database was away", here+" and "+putOff)
	l.Failed("folder", broken)
	is("it fails", here)
	minutesAgo()
	is("it fails still", away)
	l.Failed(gantry.PartObject, broken)
	l.Worked(gantry.PartObject)
	l.Worked("sqs")
	is("other parts work", away)
	l.Worked("folder")
	is("it works again", here+" and "+putOff)
	l.Failed(gantry.PartObject, broken)
	l.Failed("sqs", broken)
	overdue()
	is("other parts fail", here+" and not "+putOff)

	l = pages(t, store, "key", "p/in", 0)
	l.feed.collect = &gantry.Collect{}
	l.Failed("sqs", broken)
	l.write(t.Context())
	minutesAgo()
	is("the queue of one that is not looked at fails", away)
	l.Worked("sqs")
	is("the queue works again", here+" and "+putOff)
}
