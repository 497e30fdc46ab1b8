package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ArrivalIDs takes n ids for arrivals that are about to be read.
func (s *Store) ArrivalIDs(ctx context.Context, n int) ([]int64, error) {
	rows, err := s.pool.Query(ctx, `select nextval(pg_get_serial_sequence('gantry.arrival', 'id')) from generate_series(1, $1)`, n)
	if err != nil {
		return nil, fmt.Errorf("number arrivals: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// Known tells whether an object of a source is on record with this very sequencer. One that was found gone within the last
// hour is not.
func (s *Store) Known(ctx context.Context, source string, ref gantry.Digest, sequencer string) (bool, error) {
	var yes bool
	err := s.pool.QueryRow(ctx, `select exists (select from arrival where source = $1 and ref_mac = $2 and sequencer = $3
		and (status <> 2 or at < clock_timestamp() - interval '1 hour'))`,
		source, ref[:], sequencer).Scan(&yes)
	return yes, err
}

// decidedSQL is about the row of the state that is asked for, as knownSQL is. $1 source, $2 ref_mac, $3 sequencer, $4 via, $5 the statuses of what may be taken
// yet, $6 the reason and $7 the status of what no rule takes, $8 version; empty: the source tells none.
const decidedSQL = `select exists (
  select from arrival where $8 <> '' and source = $1 and ref_mac = $2 and version = $8 and ` + decidedHereSQL + `
  union all
  select from arrival where $8 <> '' and source = $1 and ref_mac = $2 and version = $3 and ` + decidedHereSQL + `
  union all
  select from arrival where $8 = '' and source = $1 and ref_mac = $2 and ` + decidedHereSQL + `)`

const decidedHereSQL = `sequencer = $3 and (status <> all ($5::smallint[]) or status = $7 and via = $4 and reason = $6)`

// Decided tells whether nothing is to be done about an object that came through a version of a pipeline with this very sequencer: it
// was accepted before, or turned away by the rules of that version. What these could not be asked about, what
// others turned away, and what was found gone, is looked at again: somebody says that it is there.
func (s *Store) Decided(ctx context.Context, source string, ref gantry.Digest, version, sequencer string, via int32) (bool, error) {
	var yes bool
	err := s.pool.QueryRow(ctx, decidedSQL, source, ref[:], sequencer, via, openStatuses, string(gantry.CodeNoRoute), int16(gantry.Unmatched), version).Scan(&yes)
	return yes, err
}

// openStatuses are those of arrivals that may be taken yet.
var openStatuses = []int16{int16(gantry.SourceGone), int16(gantry.Unmatched)}

// TurnAway puts arrivals on record that no task is made from, all or none, with their status and reason, and gives the ids of
// those that were not. One that is on record already stays as it is, but that one which is unmatched again is so for the
// last reason, and one which was superseded or gone and is there again is unmatched then. One that was accepted for all its pipelines and that no rule takes as it was put again is known by its last sequencer,
// or it would be asked about at every listing.
func (s *Store) TurnAway(ctx context.Context, list []gantry.Arrival) (made []int64, err error) {
	var (
		ids, sizes                                            []int64
		sources, versions, names, sequencers, places, reasons []string
		events                                                []string
		macs, shas                                            [][]byte
		statuses                                              []int16
		vias                                                  []int32
	)
	for _, a := range list {
		ids, sources, macs, versions = append(ids, a.ID), append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version)
		names, sizes, shas, sequencers = append(names, a.Name), append(sizes, a.Size), append(shas, digestOrNull(a.SHA)), append(sequencers, a.Sequencer)
		places, statuses, reasons, vias = append(places, a.Place), append(statuses, int16(a.Status)), append(reasons, string(a.Reason)), append(vias, a.Via)
		events = append(events, a.Event)
	}
	rows, err := s.pool.Query(ctx, turnAwaySQL, ids, sources, macs, versions, names, sizes, shas, sequencers, places, statuses, reasons, vias, int16(gantry.Unmatched), events)
	if err == nil {
		var id int64
		var fresh bool
		_, err = pgx.ForEachRow(rows, []any{&id, &fresh}, func() error {
			if fresh {
				made = append(made, id)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("turn arrivals away: %w", err)
	}
	return made, nil
}

// turnAwaySQL makes the rows of arrivals that no task is made from. By arrival: $1 id, $2 source, $3 ref_mac, $4 version, $5 name, $6 size,
// $7 sha, $8 sequencer, $9 place, $10 status, $11 reason, $12 via; $13 the status of those that no rule takes; $14
// event.
const turnAwaySQL = `
insert into arrival as a (id, source, ref_mac, version, name, size, sha, sequencer, place, status, reason, via, event)
select distinct on (source, ref_mac, version) id, source, ref_mac, version, name, size, sha, nullif(sequencer, ''), nullif(place, ''), status, nullif(reason, ''), nullif(via, 0), nullif(event, '')
from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::text[], $9::text[], $10::smallint[], $11::text[], $12::int[], $14::text[])
  as r(id, source, ref_mac, version, name, size, sha, sequencer, place, status, reason, via, event)
order by source, ref_mac, version, id
on conflict (source, ref_mac, version) do update set sequencer = excluded.sequencer,
  (size, status, reason, via) = (select x.size, x.status, x.reason, x.via from (values
    (a.status = 0 and a.version <> '', a.size, a.status, a.reason, a.via),
    (a.status <> 0 or a.version = '', excluded.size, excluded.status, excluded.reason, excluded.via)) x(stays, size, status, reason, via) where x.stays)
where excluded.status = $13 and (a.status in (1, 2, $13) or a.status = 0 and a.sequencer is not null or a.version = '')
returning id, xmax = 0`

// The statements about former versions name the reason (gantry.CodeFormer), as their index does. $1 source, $2 ref_mac, $3 version. Of an object
// there may be any number: one alone is read.
const (
	everFormerSQL = `select exists (select from arrival where source = $1 and reason = 'former_version')`
	someFormerSQL = `select exists (select from arrival where source = $1 and ref_mac = $2 and reason = 'former_version')`
	isFormerSQL   = `select coalesce((select reason = 'former_version' from arrival where source = $1 and ref_mac = $2 and version = $3), false)`
)

// EverFormer tells whether versions of any object of a source are on record as ones that were replaced (CodeFormer).
func (s *Store) EverFormer(ctx context.Context, source string) (bool, error) {
	return s.formers(ctx, everFormerSQL, source)
}

// SomeFormer tells whether versions of an object are.
func (s *Store) SomeFormer(ctx context.Context, source string, ref gantry.Digest) (bool, error) {
	return s.formers(ctx, someFormerSQL, source, ref[:])
}

// IsFormer tells whether a version of an object is.
func (s *Store) IsFormer(ctx context.Context, source string, ref gantry.Digest, version string) (bool, error) {
	return s.formers(ctx, isFormerSQL, source, ref[:], version)
}

func (s *Store) formers(ctx context.Context, query string, args ...any) (yes bool, err error) {
	if err = s.pool.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
		return false, fmt.Errorf("look former versions up: %w", err)
	}
	return yes, nil
}

// Matched is told that an object was accepted of which some state without a version was turned away before: that row says
// now that a later state came.
func (s *Store) Matched(ctx context.Context, source string, ref gantry.Digest) error {
	_, err := s.pool.Exec(ctx, `update arrival set status = $3, reason = null where source = $1 and ref_mac = $2 and version = '' and status = $4`,
		source, ref[:], int16(gantry.Superseded), int16(gantry.Unmatched))
	if err != nil {
		return fmt.Errorf("note what arrival was accepted: %w", err)
	}
	return nil
}

// EnsurePipeline makes the row of a pipeline version, or finds it.
func (s *Store) EnsurePipeline(ctx context.Context, p *gantry.Pipeline) (int32, error) {
	var id int32
	err := s.pool.QueryRow(ctx, `with n as (
			insert into pipeline_version(name, version, resolved, extracting_us) values ($1, $2, $3, $4) on conflict do nothing returning id),
		u as (update pipeline_version set extracting_us = $4 where name = $1 and version = $2 and extracting_us <> $4)
		select id from n union all select id from pipeline_version where name = $1 and version = $2 limit 1`,
		p.Name, p.Version[:], string(p.Resolved), micros(p.Timeouts.Extracting)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) { // another process made it at this moment
		err = s.pool.QueryRow(ctx, `select id from pipeline_version where name = $1 and version = $2`, p.Name, p.Version[:]).Scan(&id)
	}
	if err != nil {
		return 0, fmt.Errorf("record pipeline %s: %w", p.Name, err)
	}
	return id, nil
}

// ResolvedPipeline gives what EnsurePipeline recorded.
func (s *Store) ResolvedPipeline(ctx context.Context, id int32) ([]byte, error) {
	var text string
	if err := s.pool.QueryRow(ctx, `select resolved from pipeline_version where id = $1`, id).Scan(&text); err != nil {
		return nil, fmt.Errorf("read pipeline version %d: %w", id, err)
	}
	return []byte(text), nil
}

// LastVersion finds the last version of a pipeline that was recorded; ok is false if there is none.
func (s *Store) LastVersion(ctx context.Context, name string) (id int32, ok bool, err error) {
	err = s.ask.QueryRow(ctx, `select id from pipeline_version where name = $1 order by id desc limit 1`, name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read pipeline %s: %w", name, err)
	}
	return id, true, nil
}

// EnsureLane makes or finds the lane of a pipeline and a source; private lanes, of one process
// alone, are always new.
func (s *Store) EnsureLane(ctx context.Context, pipeline, source string, limiter int32, private gantry.WorkerID) (int32, error) {
	var id int32
	q, args := `insert into lane(pipeline, source, limiter, private_worker) values ($1, $2, $3, $4) returning id`,
		[]any{pipeline, source, limiter, int64(private)}
	if private == 0 {
		q, args = `insert into lane(pipeline, source, limiter) values ($1, $2, $3)
			on conflict (pipeline, source) where private_worker is null do update set limiter = excluded.limiter returning id`, args[:3]
	}
	if err := s.pool.QueryRow(ctx, q, args...).Scan(&id); err != nil {
		return 0, fmt.Errorf("make lane of %s/%s: %w", pipeline, source, err)
	}
	return id, nil
}
