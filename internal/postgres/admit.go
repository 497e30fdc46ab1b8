package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed enqueue.sql
var enqueueSQL string

//go:embed enqueuefresh.sql
var enqueueFreshSQL string

const (
	sameTask     = "task_public_id_key" // the constraint that holds a public id to one task
	besideOthers = 10 * time.Second     // so long arrivals are not taken for new after somebody else made one at the same moment: the server's log holds each failure
)

// Enqueue is Admit that says how many tasks are new.
func (s *Store) Enqueue(ctx context.Context, list []gantry.Admission) (made int, err error) {
	tasks, err := s.Admit(ctx, list)
	return len(tasks), err
}

// Admit makes arrivals and their tasks durable, all or none, and gives the tasks that are new, by their public ids, each with the
// arrival that it is of: another than was given if that was on record already. The receipts of the calls that brought them are
// written with them. Of an arrival that is to be taken once no other version may be kept: Illegal with code duplicate. The same arrival and public id may be given again, and the same receipt; then nothing changes.
func (s *Store) Admit(ctx context.Context, list []gantry.Admission, receipts ...*gantry.Receipt) (made map[string]int64, err error) {
	rows := admissionRows(list)
	brought := slices.ContainsFunc(receipts, func(r *gantry.Receipt) bool { return r != nil })
	if now := time.Now(); !brought && now.UnixNano() >= s.others.Load() {
		made, err = s.admit(ctx, enqueueFreshSQL, list, rows, nil)
		if pe, is := errors.AsType[*pgconn.PgError](err); is && (pe.ConstraintName == sameObject || pe.ConstraintName == sameTask) {
			made, err = nil, nil // another makes one of them at this moment
			s.others.Store(now.Add(besideOthers).UnixNano())
		}
	}
	if len(made) == 0 && err == nil {
		made, err = s.admit(ctx, enqueueSQL, list, rows, receipts)
	}
	if err != nil {
		return nil, cmp.Or(keptOther("enqueue", err), fmt.Errorf("enqueue: %w", err))
	}
	return made, nil
}

func (s *Store) admit(ctx context.Context, query string, list []gantry.Admission, rows []any, receipts []*gantry.Receipt) (made map[string]int64, err error) {
	b := &pgx.Batch{}
	queueOnce(b, func(yield func(*gantry.Arrival)) {
		for i := range list {
			yield(&list[i].Arrival)
		}
	})
	made = map[string]int64{}
	b.Queue(query, rows...).Query(func(rows pgx.Rows) error {
		var id string
		var arrival int64
		_, err := pgx.ForEachRow(rows, []any{&id, &arrival}, func() error { made[id] = arrival; return nil })
		return err
	})
	queueReceipts(b, receipts)
	return made, s.pool.SendBatch(ctx, b).Close()
}

// admissionRows are admissions by columns, as enqueue.sql takes them.
func admissionRows(list []gantry.Admission) []any {
	var (
		ids, sizes, within            []int64
		sources, versions, names      []string
		macs, shas                    [][]byte
		locations, sequencers, public []string
		places, events                []string
		pipelines, lanes, vias        []int32
		runs                          []string
		priorities                    []int16
	)
	for i := range list {
		x := &list[i]
		a := &x.Arrival
		ids, sources, macs, versions = append(ids, a.ID), append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version)
		names, sizes, shas = append(names, a.Name), append(sizes, a.Size), append(shas, digestOrNull(a.SHA))
		locations, sequencers, places = append(locations, a.Location), append(sequencers, a.Sequencer), append(places, a.Place)
		events = append(events, a.Event)
		public, pipelines, lanes = append(public, x.PublicID), append(pipelines, x.Pipeline), append(lanes, x.Lane)
		vias = append(vias, a.Via)
		runs, priorities, within = append(runs, x.Run), append(priorities, x.Priority), append(within, micros(x.Within))
	}
	return []any{ids, sources, macs, versions, names, sizes, shas, locations, sequencers, public, pipelines, lanes, runs, priorities, within, places, events, vias}
}
