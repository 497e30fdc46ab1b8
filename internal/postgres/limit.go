package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// EnsureLimiter makes the row of a key, or finds it. With declare the limits of a row that exists
// are set to l; without, they stay, but that hold never shrinks.
func (s *Store) EnsureLimiter(ctx context.Context, key string, l gantry.LimiterSpec, declare bool) (int32, error) {
	var maxUnits *int
	if l.MaxUnits >= 0 {
		maxUnits = &l.MaxUnits
	}
	var rate *float64
	if l.Rate > 0 {
		rate = &l.Rate
	}
	var id int32
	err := s.pool.QueryRow(ctx, `insert into limiter as l (key, max_units, rate, burst, hold)
		values ($1, $2, $3, $4, $5 * interval '1 us')
		on conflict (key) do update set hold = greatest(l.hold, excluded.hold),
			max_units = case when $6 then excluded.max_units else l.max_units end,
			rate = case when $6 then excluded.rate else l.rate end,
			burst = case when $6 then excluded.burst else l.burst end
		returning id`, key, maxUnits, rate, max(1, l.Burst), micros(l.Hold), declare).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("declare limit of %s: %w", key, err)
	}
	return id, nil
}

// Limit reads what stands in a limiter's row.
func (s *Store) Limit(ctx context.Context, id int32) (gantry.LimiterSpec, error) {
	l := gantry.LimiterSpec{MaxUnits: -1}
	var units *int
	var rate *float64
	err := s.pool.QueryRow(ctx, `select max_units, rate, burst from limiter where id = $1`, id).Scan(&units, &rate, &l.Burst)
	if err != nil {
		return l, fmt.Errorf("read limit %d: %w", id, err)
	}
	if units != nil {
		l.MaxUnits = *units
	}
	if rate != nil {
		l.Rate = *rate
	}
	return l, nil
}

// grantSQL gives worker $2 units of limiter $1. Under more demand than there are units each worker is
// entitled to its share by want ($3), rounded up, but down to one while another that waits has none: else
// the shares rounded up are taken again and again, and it gets nothing; nobody gets what another still holds;
// and nothing is taken that is in use ($4).
const grantSQL = `
with l as (select coalesce(max_units, 1000000) as max from limiter where id = $1),
o as (
  select coalesce(sum(units), 0)::int as units, coalesce(sum(want), 0)::int as want,
    coalesce(bool_or(want > 0 and units = 0), false) as none
  from limit_grant where limiter = $1 and worker <> $2 and (held_until is null or held_until > clock_timestamp())),
e as (
  select greatest($4::int, least($3::int, greatest(0, l.max - o.units),
    case when o.want + $3::int <= l.max then $3::int
         when o.none then greatest(1, floor(l.max::numeric * $3::int / greatest(1, o.want + $3::int)))::int
         else ceil(l.max::numeric * $3::int / greatest(1, o.want + $3::int))::int end)) as units
  from l, o)
insert into limit_grant as g (limiter, worker, units, want)
select $1, $2, e.units, $3::int from e where exists (select 1 from worker where id = $2 and expires_at > now())
on conflict (limiter, worker) do update set units = excluded.units, want = excluded.want
returning units`

// Grant sets how many units of a limiter worker w holds, given how many it wants and has in use,
// and answers with what it got. It takes two statements: the first waits for the limiter's row, so
// that the second, with a snapshot of its own, sees every grant made before. As one statement
// the sum would be read from before the wait, and two processes could share out the same units.
func (s *Store) Grant(ctx context.Context, w gantry.WorkerID, limiter int32, want, inUse int) (int, error) {
	var units int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`select 1 from limiter where id = $1 for update`, limiter)
		b.Queue(grantSQL, limiter, int64(w), want, inUse).QueryRow(func(r pgx.Row) error { return r.Scan(&units) })
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return 0, fmt.Errorf("grant of limit %d: %w", limiter, err)
	}
	return units, nil
}

// Share says how many units of a limiter worker w is entitled to when it wants so many: all that
// there are, unless another process waits for units. Shares are rounded up, but down to one while
// a process that waits has none: shares rounded up can add up to all units without it. Of a limit that is
// paused it is none.
func (s *Store) Share(ctx context.Context, w gantry.WorkerID, limiter int32, want int) (int, error) {
	var units int
	err := s.pool.QueryRow(ctx, `select case
			when o.none then least(l.max, greatest(1, floor(l.max::numeric * $3::int / greatest(1, o.want + $3::int))))::int
			when o.short then ceil(l.max::numeric * $3::int / greatest(1, o.want + $3::int))::int
			else l.max end
		from (select coalesce(max_units, 1000000) as max from limiter where id = $1) l,
		     (select coalesce(bool_or(want > units), false) as short, coalesce(bool_or(want > 0 and units = 0), false) as none,
		             coalesce(sum(want), 0)::int as want
		      from limit_grant where limiter = $1 and worker <> $2 and held_until is null) o`, limiter, int64(w), want).Scan(&units)
	if err != nil {
		return 0, fmt.Errorf("share of limit %d: %w", limiter, err)
	}
	return units, nil
}

// Reserve books the next n starts of a limiter with a rate (GCRA, ITU-T I.371, on the database's
// clock). first is when the first may happen, from now; the others follow at step. Starts that
// nobody booked in time are lost, but for burst-1 of them.
func (s *Store) Reserve(ctx context.Context, limiter int32, n int) (first, step time.Duration, err error) {
	var at, every float64
	err = s.pool.QueryRow(ctx, `
		update limiter set tat = greatest(tat, clock_timestamp() - (burst - 1) / rate * interval '1 s') + $2 / rate * interval '1 s'
		where id = $1 and rate is not null
		returning extract(epoch from tat - $2 / rate * interval '1 s' - clock_timestamp())::float8, 1 / rate`,
		limiter, float64(n)).Scan(&at, &every)
	if err != nil {
		return 0, 0, fmt.Errorf("reserve starts of limit %d: %w", limiter, err)
	}
	return time.Duration(at * float64(time.Second)), time.Duration(every * float64(time.Second)), nil
}
