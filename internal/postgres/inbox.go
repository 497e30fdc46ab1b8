package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBytes is the length of what stands here for a UID: the beginning of its MAC.
const CodeBytes = 16

// expectSQL lays down or renews an expectation. $1 task, $2 leg, $3 stage, $4 processor, $5 ordinal, $6 generation, $7 try, $8 called,
// $9 calling, $10 class, $11 modality, $12 sent, $13 most, $14 quiet (us).
const expectSQL = `insert into awaited as a (task_id, leg, stage, processor, ordinal, generation, try, called, calling, class, modality, sent, most, quiet)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
on conflict (task_id, leg, stage, processor, ordinal, generation) do update set at = clock_timestamp(), try = excluded.try, called = excluded.called,
  calling = excluded.calling, class = excluded.class, modality = excluded.modality, sent = excluded.sent, most = excluded.most, quiet = excluded.quiet
returning id`

// studiesSQL sets the studies of an expectation. $1 id, $2 studies.
const studiesSQL = `with gone as (delete from awaited_study s where s.awaited = $1 and s.study <> all($2::bytea[]))
insert into awaited_study (study, awaited) select unnest($2::bytea[]), $1 on conflict do nothing`

// completeSQL works out when an expectation is complete by what came so far. $1 id.
const completeSQL = `update awaited a set ready_at = case when a.most > 0 and n.n >= a.most then n.last when a.quiet > 0 then n.last + a.quiet * interval '1 us' end
from (select count(*) as n, max(i.at) as last from inbox i join awaited x on x.id = i.awaited
  where i.awaited = $1 and i.verdict = 0 and (i.used is null or i.used = x.try)) n
where a.id = $1
returning n.n, (extract(epoch from a.ready_at - clock_timestamp()) * 1000000)::bigint`

// ExpectAnswer lays down what a submission waits for. In place of each UID of x stands its code, of CodeBytes bytes.
func (s *Store) ExpectAnswer(ctx context.Context, x gantry.Awaited) (out gantry.AwaitedState, err error) {
	sent := slices.Sorted(slices.Values(x.Sent))
	packed := make([]byte, 0, CodeBytes*len(sent))
	for _, c := range slices.Compact(sent) {
		packed = append(packed, c...)
	}
	studies := make([][]byte, len(x.Studies))
	for i, c := range x.Studies {
		studies[i] = []byte(c)
	}
	err = pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		var id int64
		err := tx.QueryRow(ctx, expectSQL, int64(x.Task), x.Leg, x.Stage, x.Processor, x.Ordinal, x.Generation, x.Try, x.Called,
			x.Calling, x.Class, x.Modality, packed, int32(x.Count), x.Quiet.Microseconds()).Scan(&id)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, studiesSQL, id, studies); err != nil {
			return err
		}
		out, err = scanStanding(tx.QueryRow(ctx, completeSQL, id))
		out.Ticket = strconv.FormatInt(id, 10)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("expect answer: %w", err)
	}
	return out, nil
}

// scanStanding reads how many answers came, and when that is enough.
func scanStanding(row pgx.Row) (x gantry.AwaitedState, err error) {
	var in *int64
	if err = row.Scan(&x.Came, &in); err == nil && in != nil {
		x.Ready, x.In = *in <= 0, max(0, time.Duration(*in)*time.Microsecond)
	}
	return x, err
}

// AwaitedAnswer says how far the answer of a ticket is; one that nobody knows is NotFound with CodeJobLost.
func (s *Store) AwaitedAnswer(ctx context.Context, ticket string) (gantry.AwaitedState, error) {
	id, err := ticketOf(ticket)
	if err != nil {
		return gantry.AwaitedState{}, err
	}
	x, err := scanStanding(s.ask.QueryRow(ctx, `select (select count(*) from inbox i where i.awaited = a.id and i.verdict = 0 and (i.used is null or i.used = a.try)),
		(extract(epoch from a.ready_at - clock_timestamp()) * 1000000)::bigint from awaited a where a.id = $1`, id))
	x.Ticket = ticket
	if errors.Is(err, pgx.ErrNoRows) {
		return x, noTicket()
	}
	if err != nil {
		return x, fmt.Errorf("look for answer: %w", err)
	}
	return x, nil
}

func ticketOf(ticket string) (int64, error) {
	id, err := strconv.ParseInt(ticket, 10, 64)
	if err != nil {
		return 0, noTicket()
	}
	return id, nil
}

func noTicket() error {
	return gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "look for answer: there is no such ticket")
}

// takeAnswersSQL takes what came for an expectation that is locked. $1 id.
const takeAnswersSQL = `with a as (update awaited set taken = try where id = $1 returning try),
t as (update inbox i set used = a.try from a where i.awaited = $1 and i.verdict = 0 and (i.used is null or i.used = a.try)
  returning i.id, i.class, i.size, i.sha, coalesce(i.location, '') as location, i.body)
select class, size, sha, location, body from t order by id`

// TakeAnswers takes what came for a ticket, in the order in which it came. To take again gives the same; what comes later is late. No more
// than that they are there is said of their UIDs.
func (s *Store) TakeAnswers(ctx context.Context, ticket string) (list []gantry.Incoming, err error) {
	id, err := ticketOf(ticket)
	if err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		// Whoever keeps an answer holds the row: it comes before this one, or finds it taken.
		if err := tx.QueryRow(ctx, `select id from awaited where id = $1 for no key update`, id).Scan(&id); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, takeAnswersSQL, id)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x gantry.Incoming, err error) {
			var sha []byte
			err = row.Scan(&x.Class, &x.Size, &sha, &x.Location, &x.Body)
			copy(x.SHA[:], sha)
			return x, err
		})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noTicket()
	}
	if err != nil {
		return nil, fmt.Errorf("take answers: %w", err)
	}
	return list, nil
}

// mayAwaitSQL are the expectations that something may belong to, the newest first. $1 study, $2 called, $3 calling, $4 class, $5 modality.
const mayAwaitSQL = `select a.id from awaited_study s join awaited a on a.id = s.awaited
where s.study = $1 and a.called = $2 and a.calling in ('', $3) and a.class in ('', $4) and a.modality in ('', $5)
order by a.id desc limit 256`

// AnswerWanted tells whether something may belong to a submission. In place of UIDs stand their codes.
func (s *Store) AnswerWanted(ctx context.Context, x gantry.Incoming) (wanted bool, err error) {
	err = s.ask.QueryRow(ctx, `select exists (`+mayAwaitSQL+`)`, []byte(x.Study), x.Called, x.Calling, x.Class, x.Modality).Scan(&wanted)
	if err != nil {
		return false, fmt.Errorf("look who waits: %w", err)
	}
	return wanted, nil
}

// lockAwaitedSQL locks them, in the order of their ids so that two that come at once never wait for one another.
const lockAwaitedSQL = `select id from awaited where id = any(array(` + mayAwaitSQL + `)) order by id for no key update`

// awaitedSQL are expectations that were locked, as they are then: whether somebody waits, how many answers it has, and whether this
// very one is there, in vain so far, or another version of it. $1 ids, $2 instance, $3 sha.
const awaitedSQL = `select a.id, a.task_id, a.most, a.quiet, a.sent,
  a.taken is distinct from a.try and exists (select from task_hot h where h.id = a.task_id and h.leg = a.leg) and exists (
    select from part p where p.task_id = a.task_id and p.leg = a.leg and p.stage = a.stage and p.processor = a.processor and p.ordinal = a.ordinal
      and p.generation = a.generation and (p.status = 0 or p.status = 1 and p.out_until > clock_timestamp())
      and not exists (select from part n where n.task_id = p.task_id and n.leg = p.leg and n.stage = p.stage and n.processor = p.processor
        and n.ordinal = p.ordinal and n.generation > p.generation)) as open,
  (select count(*) from inbox i where i.awaited = a.id and i.verdict = 0 and i.used is null) as came,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha = $3) as known,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha = $3 and (i.verdict = 1 or i.verdict = 0 and i.used <> a.try)) as stale,
  exists (select from inbox i where i.awaited = a.id and i.instance = $2 and i.sha <> $3 and i.verdict = 0 and i.used is null) as other
from awaited a where a.id = any($1) order by a.id`

// awaiting is one of them.
type awaiting struct {
	id, task     int64
	most         int32
	quiet        int64 // microseconds
	sent         []byte
	open         bool
	came         int32
	known, stale bool
	other        bool
}

// has tells whether an instance was sent, by its code.
func (a *awaiting) has(code string) bool {
	lo, hi := 0, len(a.sent)/CodeBytes
	for lo < hi {
		at := (lo + hi) / 2
		switch bytes.Compare(a.sent[at*CodeBytes:(at+1)*CodeBytes], []byte(code)) {
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

// room tells whether another answer counts.
func (a *awaiting) room() bool { return a.open && (a.most == 0 || a.came < a.most) }

// belongs finds the expectation that something belongs to, nil for none. Where it says what it is about, that decides; then
// those that still wait come before the others, and the older ones before the newer. What was sent is no answer.
func belongs(list []awaiting, x gantry.Incoming) (*awaiting, gantry.Belongs) {
	var late, known *awaiting
	for i := range list {
		a := &list[i]
		if a.has(x.Instance) || len(x.Refers) > 0 && !slices.ContainsFunc(x.Refers, a.has) {
			continue
		}
		switch {
		case a.known && !(a.open && a.stale):
			known = a
		case a.open && a.other, a.room():
			return a, gantry.Counts
		default:
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
		rows, err := tx.Query(ctx, lockAwaitedSQL, []byte(x.Study), x.Called, x.Calling, x.Class, x.Modality)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, awaitedSQL, ids, []byte(x.Instance), x.SHA[:]); err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a awaiting, err error) {
			err = row.Scan(&a.id, &a.task, &a.most, &a.quiet, &a.sent, &a.open, &a.came, &a.known, &a.stale, &a.other)
			return a, err
		})
		if err != nil {
			return err
		}
		var a *awaiting
		if a, of = belongs(list, x); of == gantry.Known || of == gantry.Nobodys {
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

// dueAnswersSQL gives when answers that nobody took are complete. $1 task, $2 leg, $3 stage, $4 processor.
const dueAnswersSQL = `select ordinal, generation, (extract(epoch from ready_at - clock_timestamp()) * 1000000)::bigint from awaited
where task_id = $1 and leg = $2 and stage = $3 and processor = $4 and ready_at is not null and taken is distinct from try order by ready_at`

// SweepInbox removes expectations of tasks that ended longer ago than keep, with what came for them, and of which there are no
// tasks, at most limit; it says how many.
func (s *Store) SweepInbox(ctx context.Context, keep time.Duration, limit int) (int64, error) {
	tag, err := s.ask.Exec(ctx, `delete from awaited where id = any(array(
		select a.id from awaited a left join task t on t.id = a.task_id
		where a.at < clock_timestamp() - $1::interval and (t.id is null or t.finished_at < clock_timestamp() - $1::interval) limit $2))`, keep, limit)
	if err != nil {
		return 0, fmt.Errorf("sweep inbox: %w", err)
	}
	return tag.RowsAffected(), nil
}
