package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// versionsSQL gives the versions of objects whose bytes are kept, key by key. By object: $1 source, $2 ref_mac, $3 version.
const versionsSQL = `
select r.i, a.id, a.version = r.version, a.location, a.size, a.sha
from unnest($1::text[], $2::bytea[], $3::text[]) with ordinality r(source, ref_mac, version, i)
cross join lateral (select id, version, location, size, sha from arrival where source = r.source and ref_mac = r.ref_mac and location <> '' offset 0) a`

// Version names a version of an object of a source.
type Version struct {
	Source  string
	RefMAC  gantry.Digest
	Version string
}

// Kept says what is kept of an object.
type Kept struct {
	Arrival  int64 // of this very version; 0: it is not kept
	Location string
	Size     int64
	SHA      gantry.Digest
	Others   bool // other versions are kept
}

// Kept says of each version whether it is kept, and whether others of its object are.
func (s *Store) Kept(ctx context.Context, list []Version) ([]Kept, error) {
	sources, macs, versions := make([]string, len(list)), make([][]byte, len(list)), make([]string, len(list))
	for i := range list {
		sources[i], macs[i], versions[i] = list[i].Source, list[i].RefMAC[:], list[i].Version
	}
	rows, err := s.pool.Query(ctx, versionsSQL, sources, macs, versions)
	out := make([]Kept, len(list))
	if err == nil {
		var i, id, size int64
		var same bool
		var location string
		var sha []byte
		_, err = pgx.ForEachRow(rows, []any{&i, &id, &same, &location, &size, &sha}, func() error {
			x := &out[i-1]
			if !same {
				x.Others = true
				return nil
			}
			x.Arrival, x.Location, x.Size = id, location, size
			copy(x.SHA[:], sha)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look versions up: %w", err)
	}
	return out, nil
}
