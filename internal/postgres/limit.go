package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// EnsureLimiter makes the row of a key, or finds it. With declare the limits of a row that exists
// are set to l; without, they stay, but that hold never shrinks. What an operator set stands above both,
// and how the target stands is no part of l.
func (s *Store) EnsureLimiter(ctx context.Context, key string, l gantry.LimiterSpec, declare bool) (int32, error) {
	ids, err := s.EnsureLimiters(ctx, []string{key}, []gantry.LimiterSpec{l}, declare)
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

const ensureSQL = `
insert into limiter as l (key, max_units, rate, burst, hold, breaker_after, breaker_open, adaptive)
values ($1, $2, $3, $4, $5 * interval '1 us', $7, $8 * interval '1 us', $9)
on conflict (key) do update set hold = greatest(l.hold, excluded.hold),
  max_units = case when $6 then excluded.max_units else l.max_units end,
  rate = case when $6 then excluded.rate else l.rate end,
  burst = case when $6 then excluded.burst else l.burst end,
  breaker_after = case when $6 then excluded.breaker_after else l.breaker_after end,
  breaker_open = case when $6 then excluded.breaker_open else l.breaker_open end,
  adaptive = case when $6 then excluded.adaptive else l.adaptive end
returning id`

// EnsureLimiters does the same for several keys at once.
func (s *Store) EnsureLimiters(ctx context.Context, keys []string, specs []gantry.LimiterSpec, declare bool) ([]int32, error) {
	ids := make([]int32, len(keys))
	b := &pgx.Batch{}
	for i, l := range specs {
		var maxUnits *int
		if l.MaxUnits >= 0 {
			maxUnits = &l.MaxUnits
		}
		var rate *float64
		if l.Rate > 0 {
			rate = &l.Rate
		}
		b.Queue(ensureSQL, keys[i], maxUnits, rate, max(1, l.Burst), micros(l.Hold), declare, l.Breaker.Failures, micros(l.Breaker.Open),
			l.Adaptive).QueryRow(func(r pgx.Row) error { return r.Scan(&ids[i]) })
	}
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("declare limits of %s: %w", keys[0], err)
	}
	return ids, nil
}

// limitSQL reads the limits that hold, what an operator set included, and how the target stands. A probe
// that was not heard of for longer than a call may take is taken for lost: the breaker is open again.
const limitSQL = `
select now_units, now_rate, now_burst, breaker_after, (extract(epoch from breaker_open) * 1000000)::bigint, adaptive, paused_by is not null,
  case when breaker_after = 0 then 0 when breaker_state = 2 and breaker_until <= clock_timestamp() then 1 else breaker_state end,
  greatest(0, (extract(epoch from greatest(not_before, case when breaker_after > 0 and breaker_state = 1 then breaker_until end)
    - clock_timestamp()) * 1000000)::bigint)
from limiter where id = $1`

// Limit reads what stands in a limiter's row; Hold is not read.
func (s *Store) Limit(ctx context.Context, id int32) (gantry.LimiterSpec, error) {
	l := gantry.LimiterSpec{MaxUnits: -1}
	var units *int
	var rate *float64
	var open, rest *int64
	err := s.pool.QueryRow(ctx, limitSQL, id).Scan(&units, &rate, &l.Burst, &l.Breaker.Failures, &open, &l.Adaptive, &l.Paused, &l.State, &rest)
	if err != nil {
		return l, fmt.Errorf("read limit %d: %w", id, err)
	}
	if l.Breaker.Failures > 0 {
		l.Breaker.Open = time.Duration(*open) * time.Microsecond
	}
	if rest != nil {
		l.Rest = time.Duration(*rest) * time.Microsecond
	}
	if units != nil {
		l.MaxUnits = *units
	}
	if rate != nil {
		l.Rate = *rate
	}
	return l, nil
}

// firstSQL is how many units other processes lack for urgent calls: they go first, but where worker $2 has urgent calls
// of its own that wait (mineSQL).
const firstSQL = `coalesce(sum(greatest(0, least(urgent, want - units))) filter (where held_until is null), 0)::int`

const mineSQL = `coalesce((select urgent from limit_grant where limiter = $1 and worker = $2), 0)`

// outSQL counts the units of limiter $1 that parts hold that are out: their service works on them, and no process does.
const outSQL = `(select count(*)::int from part where out_limiter = $1 and out_until > clock_timestamp())`

// grantSQL gives worker $2 units of limiter $1. Under more demand than there are units each worker is
// entitled to its share by want ($3), rounded up, but down to one while another that waits has none: else
// the shares rounded up are taken again and again, and it gets nothing; nobody gets what another still holds;
// and nothing is taken that is in use ($4). Urgent calls that wait go before shares.
const grantSQL = `
with l as (select greatest(0, coalesce(now_units, 1000000) - ` + outSQL + `) as max from limiter where id = $1),
o as (
  select coalesce(sum(units), 0)::int as units, coalesce(sum(want), 0)::int as want,
    coalesce(bool_or(want > 0 and units = 0), false) as none, ` + firstSQL + ` as first
  from limit_grant where limiter = $1 and worker <> $2 and (held_until is null or held_until > clock_timestamp())),
m as (select ` + mineSQL + ` as urgent),
e as (
  select greatest($4::int, least($3::int, greatest(0, l.max - o.units - case when m.urgent > 0 then 0 else o.first end),
    greatest(case when m.urgent > 0 then $4::int + m.urgent else 0 end, case when o.want + $3::int <= l.max then $3::int
         when o.none then greatest(1, floor(l.max::numeric * $3::int / greatest(1, o.want + $3::int)))::int
         else ceil(l.max::numeric * $3::int / greatest(1, o.want + $3::int))::int end))) as units
  from l, o, m)
insert into limit_grant as g (limiter, worker, units, want)
select $1, $2, e.units, $3::int from e where exists (select 1 from worker where id = $2 and expires_at > now())
on conflict (limiter, worker) do update set units = excluded.units, want = excluded.want
returning units`

// Grant sets how many units of a limiter worker w holds, given how many it wants and has in use,
// and answers with what it got. It takes two statements: the first waits for the limiter's row, so
// that the second, with a snapshot of its own, sees every grant made before. As one statement
// the sum would be read from before the wait, and two processes could share out the same units. Both are
// sent at once and are one transaction, as a batch is, so that the row is locked for no round trip.
func (s *Store) Grant(ctx context.Context, w gantry.WorkerID, limiter int32, want, inUse int) (int, error) {
	var units int
	b := &pgx.Batch{}
	b.Queue(`select 1 from limiter where id = $1 for update`, limiter)
	b.Queue(grantSQL, limiter, int64(w), want, inUse).QueryRow(func(r pgx.Row) error { return r.Scan(&units) })
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return 0, fmt.Errorf("grant of limit %d: %w", limiter, err)
	}
	return units, nil
}

// Share says how many units of a limiter worker w is entitled to when it wants so many: all that
// there are, unless another process waits for units. Shares are rounded up, but down to one while
// a process that waits has none: shares rounded up can add up to all units without it. While more units are
// out than there are, since the limit was lowered, they are rounded down, to none if need be.
func (s *Store) Share(ctx context.Context, w gantry.WorkerID, limiter int32, want int) (int, error) {
	var units int
	err := s.pool.QueryRow(ctx, `select least(case when o.first > 0 and m.urgent = 0 then greatest(0, l.max - o.units - o.first) else l.max end, case
			when a.units > l.max then floor(greatest(0, l.max - a.held)::numeric * $3::int / greatest(1, o.want + $3::int))::int
			when l.max = 0 then 0
			when o.none then greatest(1, floor(l.max::numeric * $3::int / greatest(1, o.want + $3::int)))::int
			when o.short then ceil(l.max::numeric * $3::int / greatest(1, o.want + $3::int))::int
			else l.max end)
		from (select greatest(0, coalesce(now_units, 1000000) - `+outSQL+`) as max from limiter where id = $1) l,
		     (select coalesce(sum(units), 0)::int as units, coalesce(sum(units) filter (where held_until is not null), 0)::int as held
		      from limit_grant where limiter = $1 and (held_until is null or held_until > clock_timestamp())) a,
		     (select coalesce(bool_or(want > units), false) as short, coalesce(bool_or(want > 0 and units = 0), false) as none,
		             coalesce(sum(want), 0)::int as want, coalesce(sum(units), 0)::int as units, `+firstSQL+` as first
		      from limit_grant where limiter = $1 and worker <> $2 and held_until is null) o,
		     (select `+mineSQL+` as urgent) m`, limiter, int64(w), want).Scan(&units)
	if err != nil {
		return 0, fmt.Errorf("share of limit %d: %w", limiter, err)
	}
	return units, nil
}

// Reserve books the next n starts of a limiter with a rate (GCRA, ITU-T I.371, on the database's
// clock). first is when the first may happen, from now; the others follow at step. Starts that
// nobody booked in time are lost, but for burst-1 of them; after a time in which the target asked to be
// left alone, all of them.
func (s *Store) Reserve(ctx context.Context, limiter int32, n int) (first, step time.Duration, err error) {
	var at, every float64
	err = s.pool.QueryRow(ctx, `
		update limiter set tat = greatest(tat, not_before, clock_timestamp() - (now_burst - 1) / now_rate * interval '1 s') + $2 / now_rate * interval '1 s'
		where id = $1 and now_rate is not null
		returning extract(epoch from tat - $2 / now_rate * interval '1 s' - clock_timestamp())::float8, 1 / now_rate`,
		limiter, float64(n)).Scan(&at, &every)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, nil // an operator took the rate away
	}
	if err != nil {
		return 0, 0, fmt.Errorf("reserve starts of limit %d: %w", limiter, err)
	}
	return time.Duration(at * float64(time.Second)), time.Duration(every * float64(time.Second)), nil
}
