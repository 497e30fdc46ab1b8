package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxDebts is how many answers one source may owe.
const maxDebts = 10_000

// oweSQL puts a debt down, or begins it anew if it is of the same request. $1 source, $2 peer, $3 name, $4 request, $5 digest of it, $6 hold (us), $7 how
// many the source may owe. It gives nothing where another request has the name, or they are too many.
const oweSQL = `
insert into debt as d (source, peer, name, request, digest, due)
select $1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 us'
where exists (select from debt where source = $1 and peer = $2 and name = $3)
  or (select count(*) from (select from debt where source = $1 and due is not null limit $7) o) < $7
on conflict (source, peer, name) do update set request = excluded.request, at = clock_timestamp(), due = excluded.due, turn = d.turn + 1, tries = 0,
  ended_at = null, given = null
where d.digest = excluded.digest
returning id, turn`

// Owe puts on record that a source owes a peer an answer, as gantry.Debts has it. name stands for the name of its request.
func (s *Store) Owe(ctx context.Context, source string, name gantry.Digest, d gantry.Debt, hold time.Duration) (gantry.Debt, error) {
	digest := sha256.Sum256(d.Request)
	err := s.ask.QueryRow(ctx, oweSQL, source, d.Peer, name[:], d.Request, digest[:], micros(hold), maxDebts).Scan(&d.ID, &d.Turn)
	if !errors.Is(err, pgx.ErrNoRows) {
		if err != nil {
			err = fmt.Errorf("put debt on record: %w", err)
		}
		return d, err
	}
	var taken bool
	err = s.ask.QueryRow(ctx, `select exists (select from debt where source = $1 and peer = $2 and name = $3)`, source, d.Peer, name[:]).Scan(&taken)
	switch {
	case err != nil:
		return d, fmt.Errorf("put debt on record: %w", err)
	case taken:
		return d, gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "put debt on record: the peer asked something else by the same name")
	}
	return d, gantry.Errorf(gantry.Unavailable, gantry.CodeTooMany, "put debt on record: the source owes %d answers", maxDebts)
}

// dueDebtsSQL takes debts that nobody holds and whose time has come. $1 source, $2 how many at most, $3 hold (us).
const dueDebtsSQL = `
update debt d set due = clock_timestamp() + $3 * interval '1 us', turn = turn + 1
where id = any (array(select id from debt where source = $1 and due <= clock_timestamp() order by due limit $2 for update skip locked))
returning id, turn, peer, request, tries, (extract(epoch from clock_timestamp() - at) * 1000000)::bigint`

// DueDebts gives at most n debts of a source that nobody holds and whose time has come, to the caller to hold.
func (s *Store) DueDebts(ctx context.Context, source string, n int, hold time.Duration) ([]gantry.Debt, error) {
	rows, err := s.ask.Query(ctx, dueDebtsSQL, source, n, micros(hold))
	if err != nil {
		return nil, fmt.Errorf("look for debts: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d gantry.Debt, err error) {
		var age int64
		err = row.Scan(&d.ID, &d.Turn, &d.Peer, &d.Request, &d.Tries, &age)
		d.Age = time.Duration(age) * time.Microsecond
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for debts: %w", err)
	}
	return out, nil
}

// PostponeDebt has a debt wait, if whoever says so holds it.
func (s *Store) PostponeDebt(ctx context.Context, d gantry.Debt, by time.Duration) error {
	_, err := s.ask.Exec(ctx, `update debt set due = clock_timestamp() + $4 * interval '1 us', tries = $3 where id = $1 and turn = $2 and due is not null`,
		d.ID, d.Turn, d.Tries, micros(by))
	if err != nil {
		return fmt.Errorf("postpone debt: %w", err)
	}
	return nil
}

// SettleDebt ends a debt, if whoever says so holds it. What it was about is forgotten.
func (s *Store) SettleDebt(ctx context.Context, d gantry.Debt, given gantry.Code) error {
	_, err := s.ask.Exec(ctx, `update debt set due = null, request = null, ended_at = clock_timestamp(), tries = $3, given = nullif($4, '')
		where id = $1 and turn = $2 and due is not null`, d.ID, d.Turn, d.Tries, string(given))
	if err != nil {
		return fmt.Errorf("settle debt: %w", err)
	}
	return nil
}

// CodeUnserved is why a debt is given up that nobody took up: nothing serves its source any more.
const CodeUnserved gantry.Code = "unserved"

// SweepDebts gives up debts that nobody took up for so long after their time had come, and removes at most n of those that ended so long ago.
func (s *Store) SweepDebts(ctx context.Context, keep time.Duration, n int) (removed int64, err error) {
	_, err = s.ask.Exec(ctx, `update debt set due = null, request = null, ended_at = clock_timestamp(), given = $2
		where id = any (array(select id from debt where due < clock_timestamp() - $1 * interval '1 us' limit $3 for update skip locked))`, micros(keep), string(CodeUnserved), n)
	if err != nil {
		return 0, fmt.Errorf("sweep debts: %w", err)
	}
	tag, err := s.ask.Exec(ctx, `delete from debt where id = any (array(
		select id from debt where ended_at < clock_timestamp() - $1 * interval '1 us' order by ended_at limit $2 for update skip locked))`, micros(keep), n)
	if err != nil {
		return 0, fmt.Errorf("sweep debts: %w", err)
	}
	return tag.RowsAffected(), nil
}
