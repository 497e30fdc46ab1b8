package postgres

import (
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
