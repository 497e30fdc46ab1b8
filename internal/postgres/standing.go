package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Rest lets no call of a limiter begin for d from now, in any process. It never makes a rest shorter.
func (s *Store) Rest(ctx context.Context, limiter int32, d time.Duration) error {
	_, err := s.pool.Exec(ctx, `update limiter set not_before = greatest(not_before, clock_timestamp() + $2 * interval '1 us')
		where id = $1`, limiter, micros(min(d, gantry.MaxRest)))
	if err != nil {
		return fmt.Errorf("rest limit %d: %w", limiter, err)
	}
	return nil
}

// breakerSQL holds the changes of a breaker. Each is one update of the limiter's row, so that of two processes
// that ask for the probe one gets it, and only the process whose probe is out says what it showed. A probe
// is taken for lost five seconds after its call must have ended. $1 limiter, $2 worker.
var breakerSQL = map[gantry.BreakerNews]string{
	gantry.BreakerTrip: `update limiter set breaker_state = 1, breaker_until = clock_timestamp() + breaker_open, breaker_worker = $2
		where id = $1 and breaker_state = 0 and breaker_after > 0`,
	gantry.BreakerProbe: `update limiter set breaker_state = 2, breaker_until = clock_timestamp() + hold + interval '5 s', breaker_worker = $2
		where id = $1 and breaker_state > 0 and breaker_after > 0 and breaker_until <= clock_timestamp()
		  and (not_before is null or not_before <= clock_timestamp())`,
	gantry.BreakerAnswered: `update limiter set breaker_state = 0, breaker_until = null, breaker_worker = null
		where id = $1 and breaker_state = 2 and breaker_worker = $2`,
	gantry.BreakerFailed: `update limiter set breaker_state = 1, breaker_until = clock_timestamp() + breaker_open
		where id = $1 and breaker_state = 2 and breaker_worker = $2`,
	gantry.BreakerForgone: `update limiter set breaker_state = 1, breaker_until = clock_timestamp()
		where id = $1 and breaker_state = 2 and breaker_worker = $2`,
}

// Breaker changes the breaker of a limiter, and says whether it did: another process may have been first.
func (s *Store) Breaker(ctx context.Context, w gantry.WorkerID, limiter int32, news gantry.BreakerNews) (bool, error) {
	tag, err := s.pool.Exec(ctx, breakerSQL[news], limiter, int64(w))
	if err != nil {
		return false, fmt.Errorf("breaker of limit %d: %w", limiter, err)
	}
	return tag.RowsAffected() == 1, nil
}

// LimitRow is a limit as people see it. Units below 0 and a rate of 0 mean that there is none.
type LimitRow struct {
	ID         int32      `json:"id"`
	Key        string     `json:"key"`
	Units      int        `json:"units"`   // that there are; 0: paused
	InUse      int        `json:"in_use"`  // that processes had something to do for, when they last asked
	Granted    int        `json:"granted"` // that processes hold
	Held       int        `json:"held"`    // of these: by processes that died, until their calls must have ended
	Waiting    int        `json:"waiting"` // that processes want beyond what they hold
	Processes  int        `json:"processes"`
	Rate       float64    `json:"rate"` // starts per second
	Burst      float64    `json:"burst"`
	Adaptive   bool       `json:"adaptive"`
	Declared   Declared   `json:"declared"`
	SetBy      string     `json:"set_by,omitempty"` // who set limits other than the declared ones
	SetAt      *time.Time `json:"set_at,omitempty"`
	PausedBy   string     `json:"paused_by,omitempty"`
	PausedAt   *time.Time `json:"paused_at,omitempty"`
	NotBefore  *time.Time `json:"not_before,omitempty"` // the target asked to be left alone until then
	Breaker    string     `json:"breaker"`              // off, closed, open or half_open
	BreakerEnd *time.Time `json:"breaker_until,omitempty"`
}

// Declared is what a pipeline file says.
type Declared struct {
	Units int     `json:"units"`
	Rate  float64 `json:"rate"`
	Burst float64 `json:"burst"`
}

// limitColumns are what a LimitRow is scanned from, and limitFrom is where they stand.
const limitColumns = `l.id, l.key, coalesce(l.now_units, -1), coalesce(g.in_use, 0), coalesce(g.units, 0), coalesce(g.held, 0), coalesce(g.waiting, 0),
  coalesce(g.processes, 0), coalesce(l.now_rate, 0), l.now_burst, l.adaptive, coalesce(l.max_units, -1), coalesce(l.rate, 0), l.burst,
  coalesce(l.set_by, ''), l.set_at, coalesce(l.paused_by, ''), l.paused_at,
  case when l.not_before > clock_timestamp() then l.not_before end,
  case when l.breaker_after = 0 then 'off' else (array['closed','open','half_open'])[l.breaker_state + 1] end,
  case when l.breaker_after > 0 and l.breaker_state > 0 then l.breaker_until end`

const limitFrom = `
from limiter l left join (
  select limiter, sum(least(units, case when held_until is null then want else units end))::int as in_use, sum(units)::int as units,
    coalesce(sum(units) filter (where held_until is not null), 0)::int as held,
    coalesce(sum(greatest(0, want - units)) filter (where held_until is null), 0)::int as waiting,
    count(*) filter (where held_until is null and want > 0)::int as processes
  from limit_grant where held_until is null or held_until > clock_timestamp() group by limiter) g on g.limiter = l.id
`

const limitsSQL = `select ` + limitColumns + limitFrom + `where case when $1 = '' then l.now_units is not null or l.set_by is not null or l.key not like 'pipeline:%:%' else l.key = $1 end
order by l.key limit nullif($2, 0)`

// fields are where limitColumns go.
func (x *LimitRow) fields() []any {
	return []any{&x.ID, &x.Key, &x.Units, &x.InUse, &x.Granted, &x.Held, &x.Waiting, &x.Processes, &x.Rate, &x.Burst, &x.Adaptive,
		&x.Declared.Units, &x.Declared.Rate, &x.Declared.Burst, &x.SetBy, &x.SetAt, &x.PausedBy, &x.PausedAt, &x.NotBefore, &x.Breaker, &x.BreakerEnd}
}

// Limits lists every limit, or that of one key, with its use and its queue. States of pipelines that have none are
// left out.
func (s *Store) Limits(ctx context.Context, key string, limit int) ([]LimitRow, error) {
	rows, err := s.ask.Query(ctx, limitsSQL, key, limit)
	if err != nil {
		return nil, fmt.Errorf("list limits: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x LimitRow, err error) {
		err = row.Scan(x.fields()...)
		return x, err
	})
}

// Setting is what an operator sets in place of declared limits; nil leaves a limit as it is.
type Setting struct {
	Units *int     // below 0: no limit; 0: paused
	Rate  *float64 // 0: no limit
	Burst *float64
}

// SetLimit puts an operator's limits in place of the declared ones, until ResetLimit, and tells all
// processes. False means that there is no such key.
func (s *Store) SetLimit(ctx context.Context, key, by string, x Setting) (bool, error) {
	return s.operate(ctx, key, `update limiter set set_units = case when $2::int < 0 then -1 else coalesce($2, set_units) end, set_rate = coalesce($3, set_rate),
		set_burst = coalesce($4, set_burst), set_by = $5, set_at = clock_timestamp() where key = $1 returning id`, x.Units, x.Rate, x.Burst, by)
}

// ResetLimit puts the declared limits of a key back. False means that there is no such key.
func (s *Store) ResetLimit(ctx context.Context, key string) (bool, error) {
	return s.operate(ctx, key, `update limiter set set_units = null, set_rate = null, set_burst = null, set_by = null, set_at = null
		where key = $1 returning id`)
}

// PauseLimit lets nothing more begin under the limit of a key, in any process, until ResumeLimit. Calls that run
// go on. False means that there is no such key.
func (s *Store) PauseLimit(ctx context.Context, key, by string) (bool, error) {
	return s.operate(ctx, key, `update limiter set paused_by = $2, paused_at = clock_timestamp() where key = $1 returning id`, by)
}

// ResumeLimit ends a pause, and what else holds calls back: the rest that the target asked for, and an open
// breaker. False means that there is no such key.
func (s *Store) ResumeLimit(ctx context.Context, key string) (bool, error) {
	return s.operate(ctx, key, `update limiter set paused_by = null, paused_at = null, not_before = null, breaker_state = 0, breaker_until = null,
		breaker_worker = null where key = $1 returning id`)
}

// operate changes the row of a key and tells all processes.
func (s *Store) operate(ctx context.Context, key, query string, args ...any) (bool, error) {
	rows, err := s.ask.Query(ctx, query, append([]any{key}, args...)...)
	if err != nil {
		return false, fmt.Errorf("change limit: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err == nil && len(ids) == 1 {
		err = s.Notify(ctx, "l"+strconv.Itoa(int(ids[0])))
	}
	if err != nil {
		return false, fmt.Errorf("change limit: %w", err)
	}
	return len(ids) == 1, nil
}
