package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// mayAwaitSQL are the expectations that something may belong to, the newest first. $1 study, $2 called, $3 calling, $4 class, $5 modality.
const mayAwaitSQL = `select a.id, a.sent from awaited_study s join awaited a on a.id = s.awaited
where s.study = $1 and a.called = $2 and a.calling in ('', $3) and a.class in ('', $4) and a.modality in ('', $5)
order by a.id desc limit 4096`

// AnswerWanted tells whether something may belong to a submission. In place of UIDs stand their codes.
func (s *Store) AnswerWanted(ctx context.Context, x gantry.Incoming) (wanted bool, err error) {
	err = s.ask.QueryRow(ctx, `select exists (`+mayAwaitSQL+`)`, []byte(x.Study), x.Called, x.Calling, x.Class, x.Modality).Scan(&wanted)
	if err != nil {
		return false, fmt.Errorf("look who waits: %w", err)
	}
	return wanted, nil
}

// mayAwait gives the expectations that something may belong to by what was sent: what was sent itself is no answer, and
// where it says what it is about, one of these was sent.
func mayAwait(ctx context.Context, tx pgx.Tx, x gantry.Incoming) (ids []int64, err error) {
	rows, err := tx.Query(ctx, mayAwaitSQL, []byte(x.Study), x.Called, x.Calling, x.Class, x.Modality)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var sent packed
		if err := rows.Scan(&id, (*[]byte)(&sent)); err != nil {
			return nil, err
		}
		if !sent.has(x.Instance) && (len(x.Refers) == 0 || slices.ContainsFunc(x.Refers, sent.has)) {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// packed are codes, one after another in order.
type packed []byte

// has tells whether a code is among them.
func (p packed) has(code string) bool {
	lo, hi := 0, len(p)/CodeBytes
	for lo < hi {
		at := (lo + hi) / 2
		switch bytes.Compare(p[at*CodeBytes:(at+1)*CodeBytes], []byte(code)) {
		case 0:
			return true
		case -1:
			lo = at + 1
		default:
			hi = at
		}
	}
	return false
}

// lockAwaitedSQL locks expectations, in the order of their ids so that two that come at once never wait for one another. $1 ids.
const lockAwaitedSQL = `select id from awaited where id = any($1) order by id for no key update`

// awaitedSQL are expectations that were locked, as they are then: whether somebody waits, how many answers it has, and whether this
// very one is there, in vain so far, or another version of it. $1 ids, $2 instance, $3 sha.
const awaitedSQL = `select a.id, a.task_id, a.most,
  a.taken is distinct from a.try and exists (select from task_hot h where h.id = a.task_id and h.leg = a.leg) and exists (
    select from part p where p.task_id = a.task_id and p.leg = a.leg and p.stage = a.stage and p.processor = a.processor and p.ordinal = a.ordinal
      and p.generation = a.generation and (p.status = 0 or p.status = 1 and p.out_until > clock_timestamp())
      and not exists (select from part n where n.task_id = p.task_id and n.leg = p.leg and n.stage = p.stage and n.processor = p.processor
        and n.ordinal = p.ordinal and n.generation > p.generation)) as open,
  (select count(*) from inbox i where i.awaited = a.id and i.verdict = 0 and i.used is null) as came,
  (select count(*) from inbox i where i.awaited = a.id and i.verdict > 0) as vain,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha = $3) as known,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha = $3 and (i.verdict = 1 or i.verdict = 0 and i.used <> a.try)) as stale,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha <> $3 and i.verdict = 0 and i.used is null) as other
from awaited a where a.id = any($1) order by a.id`

// awaiting is one of them.
type awaiting struct {
	id, task     int64
	most         int32
	open         bool
	came, vain   int32
	known, stale bool
	other        bool
}

// What is kept for one expectation: whoever sends without end must not fill the disk.
const (
	maxAnswers = 100_000
	maxVain    = 1000 // late ones and replaced ones
)

// room tells whether another answer counts.
func (a *awaiting) room() bool {
	most := a.most
	if most == 0 {
		most = maxAnswers
	}
	return a.open && a.came < most
}

// belongs finds the expectation of several that something belongs to, nil for none: those that still wait come before the others,
// and the older ones before the newer.
func belongs(list []awaiting) (*awaiting, gantry.Belongs) {
	var late, known *awaiting
	for i := range list {
		a := &list[i]
		switch {
		case a.known && !(a.open && a.stale):
			known = a
		case a.open && a.other && a.vain < maxVain, a.room():
			return a, gantry.Counts
		case a.vain < maxVain:
			late = a
		}
	}
	switch {
	case known != nil:
		return known, gantry.Known
	case late != nil:
		return late, gantry.TooLate
	}
	return nil, gantry.Nobodys
}

// replaceSQL makes room for another version of an instance. $1 awaited, $2 instance, $3 sha.
const replaceSQL = `update inbox set verdict = 2 where awaited = $1 and instance = $2 and sha <> $3 and verdict = 0 and used is null`

// keepAnswerSQL keeps what came. What is there was late, or made no sense to an earlier try, and may now be in time. $1 awaited, $2 verdict, $3 class, $4 instance, $5 size, $6 sha, $7 location, $8 body.
const keepAnswerSQL = `insert into inbox (awaited, verdict, class, instance, size, sha, location, body) values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (awaited, instance, sha) do update set verdict = excluded.verdict, used = null, at = clock_timestamp(), size = excluded.size,
  location = excluded.location, body = excluded.body`

// wakeInSQL counts an answer, and ends the wait of a task that is parked, or was when it was paused, in a while. See
// transition.sql. $1 task, $2 microseconds.
const wakeInSQL = `update task_hot h set answers = h.answers + 1,
  run_at = case when h.phase in (2, 4) then least(h.run_at, now() + $2::bigint * interval '1 us') else h.run_at end where h.id = $1`

// KeepAnswer keeps what came, whose bytes are durable, with the submission that it belongs to. woken: a task is to be taken up for it.
// In place of UIDs stand their codes.
func (s *Store) KeepAnswer(ctx context.Context, x gantry.Incoming) (of gantry.Belongs, woken bool, err error) {
	err = pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		ids, err := mayAwait(ctx, tx, x)
		if err != nil || len(ids) == 0 {
			of = gantry.Nobodys
			return err
		}
		list, err := lockAwaited(ctx, tx, ids, x)
		if err != nil {
			return err
		}
		var a *awaiting
		if a, of = belongs(list); of == gantry.Known || of == gantry.Nobodys {
			return nil
		}
		woken, err = keepFor(ctx, tx, a, of, x)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("keep answer: %w", err)
	}
	return of, woken, nil
}

// lockAwaited locks expectations and then looks at them.
func lockAwaited(ctx context.Context, tx pgx.Tx, ids []int64, x gantry.Incoming) ([]awaiting, error) {
	if _, err := tx.Exec(ctx, lockAwaitedSQL, ids); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, awaitedSQL, ids, []byte(x.Instance), x.SHA[:])
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a awaiting, err error) {
		err = row.Scan(&a.id, &a.task, &a.most, &a.open, &a.came, &a.vain, &a.known, &a.stale, &a.other)
		return a, err
	})
}

// keepFor keeps what came for one expectation and wakes its task if the answer is, or will be, complete.
func keepFor(ctx context.Context, tx pgx.Tx, a *awaiting, of gantry.Belongs, x gantry.Incoming) (woken bool, err error) {
	if of == gantry.Counts && a.other {
		if _, err := tx.Exec(ctx, replaceSQL, a.id, []byte(x.Instance), x.SHA[:]); err != nil {
			return false, err
		}
	}
	_, err = tx.Exec(ctx, keepAnswerSQL, a.id, int16(of), x.Class, []byte(x.Instance), x.Size, x.SHA[:], textOrNull(x.Location), x.Body)
	if err != nil || of != gantry.Counts {
		return false, err
	}
	standing, err := scanStanding(tx.QueryRow(ctx, completeSQL, a.id))
	if err != nil || !standing.Ready && standing.In == 0 {
		return false, err
	}
	_, err = tx.Exec(ctx, wakeInSQL, a.task, standing.In.Microseconds())
	return true, err
}
