package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keptOnce is the name by which the database refuses an arrival that is to be taken once.
const keptOnce = "arrival_once"

// queueOnce has the transaction end, before anything is written, if another version of an arrival is kept that is to be taken once. Until its end no
// other transaction writes one.
func queueOnce(b *pgx.Batch, all func(yield func(*gantry.Arrival))) {
	var sources, versions []string
	var macs [][]byte
	all(func(a *gantry.Arrival) {
		if a.Once {
			sources, macs, versions = append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version)
		}
	})
	if len(sources) > 0 {
		b.Queue(`select take_once($1, $2, $3)`, sources, macs, versions)
	}
}

// keptOther tells that refusal, Illegal with code duplicate; nil: it is another error.
func keptOther(verb string, err error) error {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.ConstraintName == keptOnce {
		return gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "%s: other bytes are kept under its name", verb)
	}
	return nil
}
