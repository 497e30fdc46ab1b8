package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// knownSQL looks arrivals up by the objects that they were made from, through the unique key. One that was found gone is
// no answer for an hour: a listing that shows the object may be right. One that the rules of
// another version turned away, or that they could not be asked about, is none either. $1 source, $2 ref_mac, $3 via,
// $4 the reason of one that no rule takes, $5 sequencer, $6 version; empty: the source tells none. Of a key that was overwritten a hundred
// thousand times only the state that is asked for is read: its row has the version of the object, or, as that of a marker, its sequencer for one.
// It asks key by key: for a list of a thousand the planner would read all of a table of some hundred thousand rows.
const knownSQL = `select k.ref, k.sequencer from unnest($2::bytea[], $5::text[], $6::text[]) k(ref, sequencer, version), lateral (
  select from arrival where k.version <> '' and source = $1 and ref_mac = k.ref and version = k.version and ` + knownHereSQL + `
  union all
  select from arrival where k.version <> '' and source = $1 and ref_mac = k.ref and version = k.sequencer and ` + knownHereSQL + `
  union all
  select from arrival where k.version = '' and source = $1 and ref_mac = k.ref and ` + knownHereSQL + `
  limit 1) a`

const knownHereSQL = `sequencer = k.sequencer
    and (status not in (2, 3) or status = 2 and at < clock_timestamp() - interval '1 hour' or status = 3 and via = $3 and reason = $4)`

// KnownAll is Known for many objects at once, by ref, version and sequencer.
func (s *Store) KnownAll(ctx context.Context, source string, via int32, refs []gantry.Digest, versions, sequencers []string) ([]bool, error) {
	keys := make([][]byte, len(refs))
	for i := range refs {
		keys[i] = refs[i][:]
	}
	rows, err := s.pool.Query(ctx, knownSQL, source, keys, via, string(gantry.CodeNoRoute), sequencers, versions)
	if err != nil {
		return nil, fmt.Errorf("look objects up: %w", err)
	}
	type state struct {
		ref       gantry.Digest
		sequencer string
	}
	found := make(map[state]struct{}, len(refs))
	var ref []byte
	var x state
	_, err = pgx.ForEachRow(rows, []any{&ref, &x.sequencer}, func() error {
		copy(x.ref[:], ref)
		found[x] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look objects up: %w", err)
	}
	known := make([]bool, len(refs))
	for i := range refs {
		_, known[i] = found[state{refs[i], sequencers[i]}]
	}
	return known, nil
}

const queuedSQL = `select count(*) >= $2::bigint from (select from task_hot where lane = $1 and phase = 0 limit $2::bigint) x`

// Queued tells whether a lane has at least so many tasks that wait to be claimed.
func (s *Store) Queued(ctx context.Context, lane int32, n int) (full bool, err error) {
	err = s.pool.QueryRow(ctx, queuedSQL, lane, n).Scan(&full)
	if err != nil {
		return false, fmt.Errorf("count queue of lane %d: %w", lane, err)
	}
	return full, nil
}

// SourceReport is what the process that watches a source has to say of it. Counts are of what happened since the last
// report; zero times and nil change nothing.
type SourceReport struct {
	Source, Kind      string
	Progress          []byte
	Backlog           bool
	Passed            int64
	Last, Half, Worst time.Duration // from an object's time to its arrival's commit; Worst below 0: none was seen
	Sweeps, Missed    int64
	Sweep             gantry.Sweep   // the last
	Failure           SourceFailure  // the last
	Worked            []SourceWorked // parts, after they failed or for the first time
	Channels          []ChannelReport
	Blind             bool // it cannot be looked at: what comes to it meanwhile is not seen
	WasBlind          bool // the last report said so
	Collected         bool // its objects are: a time in which nobody watched it is made up for
}

// SourceFailure is a failure of a part of what a source does.
type SourceFailure struct {
	Part string // see gantry.Ledger
	Code gantry.Code
	Kind gantry.Kind
	At   time.Time
	Over time.Time // when the part worked again; zero: not yet
}

// SourceWorked says that a part worked.
type SourceWorked struct {
	Part string
	At   time.Time
}

// ChannelReport is what a channel told since the last report.
type ChannelReport struct {
	Channel string
	At      time.Time // of the last
	Told    int64
}

const reportSQL = `insert into source_state as x (source, kind, at, progress, backlog, passed, lag_us, lag_p50_us, lag_max_us, sweeps, missed,
    swept_at, sweep_us, sweep_objects, sweep_missed, error_code, error_kind, error_at, error_part, error_over, watched_at)
  values ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, nullif($18, ''), $19, case when not $22::bool then clock_timestamp() end)
  on conflict (source) do update set kind = excluded.kind, at = excluded.at, watched_at = case when $22 or coalesce(x.watched_at, x.at) < clock_timestamp() - $23::bigint * interval '1 us' then coalesce(x.watched_at, x.at) else excluded.at end, progress = coalesce(excluded.progress, x.progress),
    backlog = excluded.backlog, passed = excluded.passed,
    lag_us = coalesce(excluded.lag_us, x.lag_us), lag_p50_us = coalesce(excluded.lag_p50_us, x.lag_p50_us), lag_max_us = coalesce(excluded.lag_max_us, x.lag_max_us),
    sweeps = x.sweeps + excluded.sweeps, missed = x.missed + excluded.missed,
    swept_at = coalesce(excluded.swept_at, x.swept_at),
    sweep_us = case when excluded.swept_at is null then x.sweep_us else excluded.sweep_us end,
    sweep_objects = case when excluded.swept_at is null then x.sweep_objects else excluded.sweep_objects end,
    sweep_missed = case when excluded.swept_at is null then x.sweep_missed else excluded.sweep_missed end,
    error_code = case when excluded.error_at is null then x.error_code else excluded.error_code end,
    error_kind = case when excluded.error_at is null then x.error_kind else excluded.error_kind end,
    error_at = coalesce(excluded.error_at, x.error_at),
    error_part = case when excluded.error_at is null then x.error_part else excluded.error_part end,
    error_over = case when excluded.error_at is null
      then coalesce(x.error_over, (select min(w.at) from unnest($20::text[], $21::timestamptz[]) w(part, at) where w.part = coalesce(x.error_part, w.part) and w.at > x.error_at))
      else excluded.error_over end
  returning coalesce(not $22 and watched_at < at - $23::bigint * interval '1 us', false)`

const channelSQL = `insert into source_channel as x (source, channel, heard_at, told) values ($1, $2, $3, $4)
  on conflict (source, channel) do update set heard_at = coalesce(greatest(excluded.heard_at, x.heard_at), x.heard_at), told = x.told + excluded.told`

// ReportSource writes a report down. Away says that nobody watched the source for a while, and that it does not count as watched before WatchAgain.
func (s *Store) ReportSource(ctx context.Context, r SourceReport) (away bool, err error) {
	last, half, worst := micros(r.Last), micros(r.Half), micros(r.Worst)
	lags := []*int64{&last, &half, &worst}
	if r.Worst < 0 {
		lags = make([]*int64, 3)
	}
	parts, times := make([]string, len(r.Worked)), make([]time.Time, len(r.Worked))
	for i, w := range r.Worked {
		parts[i], times[i] = w.Part, w.At
	}
	batch := &pgx.Batch{}
	batch.Queue(reportSQL, r.Source, r.Kind, r.Progress, r.Backlog, r.Passed, lags[0], lags[1], lags[2], r.Sweeps, r.Missed,
		timeOrNull(r.Sweep.Began), micros(r.Sweep.Took), r.Sweep.Objects, r.Sweep.Missed, string(r.Failure.Code), int16(r.Failure.Kind), timeOrNull(r.Failure.At), r.Failure.Part, timeOrNull(r.Failure.Over), parts, times, r.Blind, r.unwatched()).QueryRow(func(row pgx.Row) error { return row.Scan(&away) })
	for _, c := range r.Channels {
		batch.Queue(channelSQL, r.Source, c.Channel, timeOrNull(c.At), c.Told)
	}
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return false, fmt.Errorf("report source: %w", err)
	}
	return away, nil
}

// unwatched is how old the report before may be (us); nil: however old.
func (r *SourceReport) unwatched() *int64 {
	us := micros(awaySurely)
	switch {
	case !r.Collected:
		return nil
	case r.WasBlind:
		us = 0
	}
	return &us
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// SourceProgress gives the progress that was reported last; nil if none was.
func (s *Store) SourceProgress(ctx context.Context, source string) (progress []byte, err error) {
	err = s.pool.QueryRow(ctx, `select progress from source_state where source = $1`, source).Scan(&progress)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read progress of source: %w", err)
	}
	return progress, nil
}

// SourcePlace says where a source takes from.
type SourcePlace struct{ Source, Kind, Place string }

// placesSQL puts down where sources take from that nothing is on record of, and gives what is on record then. $1 sources, $2 kinds, $3 places.
const placesSQL = `insert into source_state as x (source, kind, place)
  select u.source, u.kind, u.place from unnest($1::text[], $2::text[], $3::text[]) u(source, kind, place) order by u.source
  on conflict (source) do update set place = coalesce(x.place, excluded.place)
  returning source, kind, place`

// SettleSources puts down where sources take from. If some are on record with other places it gives them as they are, and puts nothing down.
func (s *Store) SettleSources(ctx context.Context, list []SourcePlace) (elsewhere []SourcePlace, err error) {
	sources, kinds, places := make([]string, len(list)), make([]string, len(list)), make([]string, len(list))
	want := make(map[string]string, len(list))
	for i, x := range list {
		sources[i], kinds[i], places[i] = x.Source, x.Kind, x.Place
		want[x.Source] = x.Place
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, placesSQL, sources, kinds, places)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SourcePlace])
		if err != nil {
			return err
		}
		if elsewhere = slices.DeleteFunc(found, func(x SourcePlace) bool { return x.Place == want[x.Source] }); len(elsewhere) > 0 {
			return errRefused
		}
		return nil
	})
	if err != nil && !errors.Is(err, errRefused) {
		return nil, fmt.Errorf("put places of sources down: %w", err)
	}
	return elsewhere, nil
}

const movedSQL = `with was as (select place from source_state where source = $1 for update)
update source_state s set place = null from was where s.source = $1 returning coalesce(was.place, '')`

// SourceMoved forgets where a source takes from, and tells where that was; empty if nothing was on record.
func (s *Store) SourceMoved(ctx context.Context, source string) (place string, err error) {
	err = s.ask.QueryRow(ctx, movedSQL, source).Scan(&place)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", gantry.Errorf(gantry.NotFound, "", "find source: none of this name was ever watched; gantry source status lists them")
	}
	if err != nil {
		return "", fmt.Errorf("forget place of source: %w", err)
	}
	return place, nil
}

// The arrivals of a source are counted along the unique key, those that no task was made from along their own.
const sourcesSQL = `select s.source, s.kind, s.at, s.backlog, s.passed, s.lag_us, s.lag_p50_us, s.lag_max_us, s.sweeps, s.missed,
  s.swept_at, s.sweep_us, s.sweep_objects, s.sweep_missed, s.error_code, s.error_kind, s.error_at, s.error_part, s.error_over,
  (select count(*) from arrival a where a.source = s.source), n.n
from source_state s, lateral (
  select array(select coalesce(c.n, 0) from generate_series(1, 4) st left join
    (select a.status, count(*) as n from arrival a where a.source = s.source and a.status <> 0 group by 1) c on c.status = st order by st)) n(n)
order by s.source`

// Sources lists every source that was ever watched.
func (s *Store) Sources(ctx context.Context) ([]gantry.SourceStatus, error) {
	rows, err := s.ask.Query(ctx, sourcesSQL)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanSource)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	return list, s.channels(ctx, list)
}

func scanSource(row pgx.CollectableRow) (x gantry.SourceStatus, err error) {
	var last, half, worst, took, objects, missed, all *int64
	var swept, failed, over *time.Time
	var code, part *string
	var kind *int16
	var turned []int64
	err = row.Scan(&x.Source, &x.Kind, &x.At, &x.Backlog, &x.Passed, &last, &half, &worst, &x.Sweeps, &x.Missed,
		&swept, &took, &objects, &missed, &code, &kind, &failed, &part, &over, &all, &turned)
	if err != nil {
		return x, err
	}
	if worst != nil {
		x.Lag = &gantry.SourceLag{Last: inSeconds(*last), Half: inSeconds(*half), Max: inSeconds(*worst)}
	}
	if swept != nil {
		x.LastSweep = &gantry.SweepStatus{Began: *swept, Took: inSeconds(*took), Objects: *objects, Missed: *missed}
	}
	if failed != nil {
		x.LastError = &gantry.SourceFailure{Code: *code, Kind: gantry.Kind(*kind).String(), At: *failed, Over: over}
		if part != nil {
			x.LastError.Part = *part
		}
	}
	a := gantry.ArrivalCounts{Superseded: turned[0], SourceGone: turned[1], Unmatched: turned[2], Ignored: turned[3]}
	a.Accepted = *all - a.Superseded - a.SourceGone - a.Unmatched - a.Ignored
	x.Arrivals = a
	return x, nil
}

func inSeconds(us int64) float64 { return float64(us) / 1e6 }

// channels fills in the channels of sources, which are in the order of their names.
func (s *Store) channels(ctx context.Context, list []gantry.SourceStatus) error {
	at := make(map[string]*gantry.SourceStatus, len(list))
	for i := range list {
		list[i].Channels = []gantry.ChannelStatus{}
		at[list[i].Source] = &list[i]
	}
	rows, err := s.ask.Query(ctx, `select source, channel, heard_at, told from source_channel order by source, channel`)
	if err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	var source string
	var c gantry.ChannelStatus
	_, err = pgx.ForEachRow(rows, []any{&source, &c.Channel, &c.Heard, &c.Told}, func() error {
		x := at[source]
		if x == nil {
			return nil
		}
		x.Channels = append(x.Channels, c)
		if c.Heard != nil && (x.LastEvent == nil || c.Heard.After(*x.LastEvent)) {
			heard := *c.Heard
			x.LastEvent = &heard
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	return nil
}
