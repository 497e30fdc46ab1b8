package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed aftercare.sql
var aftercareSQL string

// Aftercare is an object with which something is to be done at its source, since all its tasks have ended.
type Aftercare struct {
	ID      int64
	Arrival int64
	Mark    string // how the source finds it; may hold names of people
	Ended   gantry.State
	Tries   int16     // that failed
	Since   time.Time // when it was minded: another time says that it was put again
}

// KeepInMind lays down that something is to be done with an object once its tasks have ended. It comes before the
// arrival, so that no crash in between forgets it. An object that is put again is minded again. marker are the
// gatherings of an object that is a marker: it has no task of its own, and waits for those of the groups that it is about.
func (s *Store) KeepInMind(ctx context.Context, a gantry.Arrival, mark string, marker []gantry.Gathering) error {
	var pipelines []string // null in the row of what is no marker
	var groups [][]byte
	for i := range marker {
		pipelines, groups = append(pipelines, marker[i].Pipeline), append(groups, marker[i].Group[:])
	}
	_, err := s.pool.Exec(ctx, `insert into aftercare(source, ref_mac, version, mark, due, pipelines, groups) values ($1, $2, $3, $4, clock_timestamp() + interval '1 s', $5, $6)
		on conflict (source, ref_mac, version) do update set mark = excluded.mark, due = excluded.due, at = clock_timestamp(), ended = null, tries = 0, code = null,
			pipelines = excluded.pipelines, groups = excluded.groups`,
		a.Source, a.RefMAC[:], a.Version, mark, pipelines, groups)
	if err != nil {
		return fmt.Errorf("keep object in mind: %w", err)
	}
	return nil
}

// DueAftercare takes up to n objects of a source all of whose tasks have ended: of those made from it alone, and of
// those whose collection it belongs to or, a marker, said was complete. They are the caller's for a time; then they are given again. more tells that others
// may be due.
func (s *Store) DueAftercare(ctx context.Context, source string, n int, within time.Duration) (list []Aftercare, more bool, err error) {
	rows, err := s.pool.Query(ctx, aftercareSQL, source, n, micros(within))
	if err != nil {
		return nil, false, fmt.Errorf("find objects that are done with: %w", err)
	}
	var x Aftercare
	var state int16
	var ready bool
	looked := 0
	_, err = pgx.ForEachRow(rows, []any{&x.ID, &x.Arrival, &x.Mark, &state, &x.Tries, &ready, &x.Since}, func() error {
		if looked++; ready {
			x.Ended = gantry.State(state)
			list = append(list, x)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("find objects that are done with: %w", err)
	}
	return list, looked == n, nil
}

// Tended puts down what came of it. With a code it was not done; again says after what time to try once more, 0 never. Where
// tasks are done, or a refusal stands, nothing more will be; where one failed, it may be done with after all. Of an object that was put
// again meanwhile it says nothing.
func (s *Store) Tended(ctx context.Context, x Aftercare, code gantry.Code, again time.Duration) error {
	over := again == 0 && (code != "" || x.Ended == gantry.Done)
	_, err := s.pool.Exec(ctx, `update aftercare set code = nullif($2, ''),
		ended = case when $4::bigint = 0 then $3::smallint else ended end, tries = case when $2 = '' then 0 else tries + 1 end,
		mark = case when not $5::bool then mark end,
		due = case when $5::bool then null when $4::bigint > 0 then clock_timestamp() + $4::bigint * interval '1 us'
			else clock_timestamp() + least(greatest((clock_timestamp() - at) / 4, interval '1 min'), interval '1 d') end
		where id = $1 and at = $6`, x.ID, string(code), int16(x.Ended), micros(again), over, x.Since)
	if err != nil {
		return fmt.Errorf("put down what came of an object: %w", err)
	}
	return nil
}

// endedSQL makes the objects due that tasks were made of, and the markers of their groups. Two processes' tasks may be of the same
// objects, so that rows are locked in the order of their ids. $1 tasks.
const endedSQL = `with l as materialized (
		select id from aftercare where id = any(array(
			select c.id from arrival a join aftercare c using (source, ref_mac, version)
			where a.id = any(array(
				select arrival from task where id = any($1) and arrival is not null
				union all
				select m.arrival from task t join collection_member m on m.collection = t.collection where t.id = any($1)))
			union all
			select id from aftercare
			where groups && array(select c.key_mac from collection c where c.id = any(array(select collection from task where id = any($1) and collection is not null)))))
		and due > clock_timestamp() order by id for update)
	update aftercare set due = clock_timestamp() where id = any(array(select id from l))`

// TasksEnded has the objects that tasks were made of, and the markers of their groups, looked at now.
func (s *Store) TasksEnded(ctx context.Context, tasks []gantry.TaskID) error {
	ids := make([]int64, len(tasks))
	for i, t := range tasks {
		ids[i] = int64(t)
	}
	if _, err := s.pool.Exec(ctx, endedSQL, ids); err != nil {
		return fmt.Errorf("note ended tasks: %w", err)
	}
	return nil
}
