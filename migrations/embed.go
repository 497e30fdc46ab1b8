// Package migrations holds the schema as plain SQL, forward only, applied in the order of the
// file names. bootstrap.sql runs before them, outside the version table: it makes the roles and
// the schema if the connecting role may.
package migrations

import "embed"

// FS holds the numbered migrations.
//
//go:embed [0-9]*.sql
var FS embed.FS

// Bootstrap makes roles and schema; every statement may be repeated.
//
//go:embed bootstrap.sql
var Bootstrap string
