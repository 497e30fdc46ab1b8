package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// blobLeaves is how long a deletion is taken to be under way. S3 refuses a signed request whose time is 15 minutes
// away from its own (Signature Version 4), so that after this time none can be on its way any more, whatever the clocks say.
const blobLeaves = 40 * time.Minute

// KeepBlob writes the row of a blob that is about to be committed, or revives it: its tombstone goes, and it counts as
// new. leaving: it is being deleted, and the row stays as it is.
func (s *Store) KeepBlob(ctx context.Context, x gantry.KeptBlob) (leaving bool, err error) {
	tag, err := s.pool.Exec(ctx, `insert into blob as b (location, worker, size, sha) values ($1, $2, $3, $4)
		on conflict (location) do update set worker = excluded.worker, size = excluded.size, at = clock_timestamp(), tomb_at = null, leaving_at = null
		where b.leaving_at is null or b.leaving_at < clock_timestamp() - $5::interval`,
		x.Location, int64(x.Worker), x.Size, digestBytes(x.SHA), blobLeaves)
	if err != nil {
		return false, fmt.Errorf("keep blob: %w", err)
	}
	return tag.RowsAffected() == 0, nil
}

// AdoptBlobs writes rows for blobs that have none, and says how many there were. With dry it only counts.
func (s *Store) AdoptBlobs(ctx context.Context, list []gantry.KeptBlob, dry bool) (n int, err error) {
	var locations []string
	var sizes []int64
	var sums [][]byte
	var times []time.Time
	for _, x := range list {
		locations, sizes, sums, times = append(locations, x.Location), append(sizes, x.Size), append(sums, digestBytes(x.SHA)), append(times, x.At)
	}
	err = s.pool.QueryRow(ctx, `with new as (
		  select * from unnest($1::text[], $2::bigint[], $3::bytea[], $4::timestamptz[]) as n (location, size, sha, at)
		  where not exists (select from blob b where b.location = n.location)),
		made as (insert into blob (location, size, sha, at) select location, size, sha, at from new where not $5 on conflict do nothing)
		select count(*) from new`, locations, sizes, sums, times, dry).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("adopt blobs: %w", err)
	}
	return n, nil
}

// TombBlobs sets tombstones among the next blobs after a location, in order, for those that nothing refers to and that were
// not committed for the time settle; with dry it only counts. next is where to go on, empty at the end.
func (s *Store) TombBlobs(ctx context.Context, after string, limit int, settle time.Duration, dry bool) (next string, n int, size int64, err error) {
	err = s.pool.QueryRow(ctx, `with page as materialized (select location from blob where location > $1 order by location limit $2),
		dead as materialized (
		  select b.location, b.size from blob b
		  where b.location = any(array(select location from page)) and b.tomb_at is null and b.at < clock_timestamp() - $3::interval
		    and not exists (select from blob_use u where u.location = b.location)),
		marked as (
		  update blob b set tomb_at = clock_timestamp()
		  where b.location = any(array(select location from dead)) and b.tomb_at is null and b.at < clock_timestamp() - $3::interval and not $4)
		select coalesce((select max(location) from page), ''), (select count(*) from dead), (select coalesce(sum(size), 0) from dead)`,
		after, limit, settle, dry).Scan(&next, &n, &size)
	if err != nil {
		return "", 0, 0, fmt.Errorf("set tombstones of blobs: %w", err)
	}
	return next, n, size, nil
}

// DoomBlobs begins the deletion of blobs whose tombstone is older than the grace and that nothing refers to. Those
// that something refers to after all lose their tombstone.
func (s *Store) DoomBlobs(ctx context.Context, grace time.Duration, limit int) ([]gantry.DoomedBlob, error) {
	rows, err := s.pool.Query(ctx, `with due as materialized (
		  select location from blob where tomb_at < clock_timestamp() - $1::interval
		    and (leaving_at is null or leaving_at < clock_timestamp() - $3::interval) order by tomb_at limit $2),
		used as (
		  update blob b set tomb_at = null
		  where b.location = any(array(select location from due)) and exists (select from blob_use u where u.location = b.location)),
		doomed as (
		  update blob b set leaving_at = clock_timestamp()
		  where b.location = any(array(select location from due)) and not exists (select from blob_use u where u.location = b.location)
		    and b.tomb_at < clock_timestamp() - $1::interval and (b.leaving_at is null or b.leaving_at < clock_timestamp() - $3::interval)
		  returning b.location, b.size, b.leaving_at)
		select location, size, leaving_at from doomed`, grace, limit, blobLeaves)
	if err != nil {
		return nil, fmt.Errorf("doom blobs: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[gantry.DoomedBlob])
	if err != nil {
		return nil, fmt.Errorf("doom blobs: %w", err)
	}
	return list, nil
}

// DueBlobs counts what DoomBlobs would delete.
func (s *Store) DueBlobs(ctx context.Context, grace time.Duration) (n int, size int64, err error) {
	err = s.pool.QueryRow(ctx, `select count(*), coalesce(sum(size), 0) from blob b where tomb_at < clock_timestamp() - $1::interval
		and not exists (select from blob_use u where u.location = b.location)`, grace).Scan(&n, &size)
	if err != nil {
		return 0, 0, fmt.Errorf("count blobs to delete: %w", err)
	}
	return n, size, nil
}

// BlobGone removes the row of a blob that was deleted, unless it was taken for dead meanwhile and began anew.
func (s *Store) BlobGone(ctx context.Context, x gantry.DoomedBlob) error {
	if _, err := s.pool.Exec(ctx, `delete from blob where location = $1 and leaving_at = $2`, x.Location, x.Since); err != nil {
		return fmt.Errorf("remove row of blob: %w", err)
	}
	return nil
}

// SpareBlobs ends deletions that never began: their tombstones stay.
func (s *Store) SpareBlobs(ctx context.Context, list []gantry.DoomedBlob) error {
	batch := &pgx.Batch{}
	for _, x := range list {
		batch.Queue(`update blob set leaving_at = null where location = $1 and leaving_at = $2`, x.Location, x.Since)
	}
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("spare blobs: %w", err)
	}
	return nil
}

// BlobStore gives the identity of the blob store in a bucket that the database belongs to; empty if there is none. With claim
// a database that belongs to none belongs to id from then on.
func (s *Store) BlobStore(ctx context.Context, id string, claim bool) (known string, err error) {
	err = again(ctx, func() (err error) {
		if claim {
			_, err = s.pool.Exec(ctx, `insert into blob_store (id) values ($1) on conflict do nothing`, id)
		}
		if err == nil {
			err = s.pool.QueryRow(ctx, `select coalesce((select id from blob_store), '')`).Scan(&known)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read blob store's identity: %w", err)
	}
	return known, nil
}

// DatabaseID gives the id of this database, by which its blob store knows it: a backup that is put back has it too, a new
// database gets fresh for its own.
func (s *Store) DatabaseID(ctx context.Context, fresh string) (id string, err error) {
	err = again(ctx, func() error {
		_, err := s.pool.Exec(ctx, `insert into database_id (id) values ($1) on conflict do nothing`, fresh)
		if err == nil {
			err = s.pool.QueryRow(ctx, `select id from database_id`).Scan(&id)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read database's id: %w", err)
	}
	return id, nil
}
