package blob

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeOtherDatabase: the store belongs to another database, to which this one's blobs would be garbage.
const CodeOtherDatabase gantry.Code = "other_database" // Illegal

const (
	ownerFile = "owner.json"
	ownerKey  = "gantry-blobs-owner.json" // below the prefix
)

// Owner is the database that a store belongs to: it alone knows which blobs are in use, and may collect the others.
type Owner struct {
	Database string    `json:"database"` // the database's own id; empty: the store belongs to none yet
	Since    time.Time `json:"since"`
}

// hold refuses another database than the owner.
func (o Owner) hold(store, database string) error {
	if o.Database == database && database != "" {
		return nil
	}
	return gantry.Errorf(gantry.Illegal, CodeOtherDatabase, "open blob store %s: it belongs to database %s since %s, and this is database %s: name another folder or prefix as blobs, "+
		"or, if that database is lost for good, say gantry blobs claim", store, o.Database, o.Since.Format(time.RFC3339), database)
}

// idLetters are what ids of databases are made of; they are printed.
const idLetters = "abcdefghijklmnopqrstuvwxyz0123456789-"

func parseOwner(text []byte) (o Owner, err error) {
	if err := json.Unmarshal(text, &o); err != nil || o.Database == "" || len(o.Database) > maxStoreID || strings.Trim(o.Database, idLetters) != "" {
		return o, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read blob store's owner: %s is damaged", ownerFile)
	}
	return o, nil
}

// papers is a store as its owner sees it.
type papers interface {
	// readOwner gives the owner; none is no error.
	readOwner(ctx context.Context) (Owner, error)
	// writeOwner makes the paper durable. With fresh it leaves one that is there.
	writeOwner(ctx context.Context, text []byte, fresh bool) error
}

// own lets a store that belongs to no database belong to this one, and refuses one that belongs to another. What was written is read
// back, since another database may have been first. Of two that come at once to a server that does not know If-None-Match both may be
// let in; the one that lost is refused when it wants to collect garbage, and at its next start.
func own(ctx context.Context, p papers, store, database string, now func() time.Time) error {
	o, err := p.readOwner(ctx)
	if err == nil && o.Database == "" {
		if err = p.writeOwner(ctx, ownerText(database, now()), true); err == nil {
			o, err = p.readOwner(ctx)
		}
	}
	if err != nil {
		return err
	}
	return o.hold(store, database)
}

func ownerText(database string, at time.Time) []byte {
	text, _ := json.MarshalIndent(Owner{database, at.UTC().Truncate(time.Second)}, "", "  ") // a string and a time: cannot fail
	return append(text, '\n')
}

// folder is the place of a store in a folder.
type folder struct {
	root string
	rand io.Reader
}

func (f folder) readOwner(context.Context) (o Owner, err error) {
	text, err := readSmall(filepath.Join(f.root, ownerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case err != nil:
		return o, diskError("read blob store's owner", err)
	}
	return parseOwner(text)
}

func (f folder) writeOwner(_ context.Context, text []byte, fresh bool) error {
	err := f.write(text, fresh)
	if err != nil {
		err = diskError("write blob store's owner", err)
	}
	return err
}

func (f folder) write(text []byte, fresh bool) error {
	if fresh {
		_, err := createOnce(f.root, ownerFile, text, f.rand)
		return err
	}
	var suffix [8]byte
	if _, err := io.ReadFull(f.rand, suffix[:]); err != nil {
		return err
	}
	name := tempPrefix + hex.EncodeToString(suffix[:])
	if _, err := createOnce(f.root, name, text, f.rand); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(f.root, name), filepath.Join(f.root, ownerFile)); err != nil {
		return err
	}
	return syncDir(f.root)
}

// Owned refuses a store that does not, or no longer, belong to the database that it was opened for: its garbage is another's to collect.
func (d *Dir) Owned(ctx context.Context) error {
	o, err := folder{d.root, d.env.rand}.readOwner(ctx)
	if err != nil {
		return err
	}
	return o.hold(d.id, d.database)
}

// ClaimDir makes a store in a folder belong to a database, whichever it belonged to before. A store that was never opened gives
// fs.ErrNotExist. Processes of the former database collect no more of its garbage, and open it no more.
func ClaimDir(ctx context.Context, dir, database string) error {
	if _, err := readIdentity(dir); err != nil {
		return err
	}
	e := systemEnv()
	return folder{dir, e.rand}.writeOwner(ctx, ownerText(database, e.now()), false)
}

func (b *Bucket) readOwner(ctx context.Context) (o Owner, err error) {
	text, err := b.readSmall(ctx, ownerKey)
	switch {
	case gantry.CodeOf(err) == CodeMissing:
		return o, nil
	case err != nil:
		return o, err
	}
	return parseOwner(text)
}

func (b *Bucket) writeOwner(ctx context.Context, text []byte, fresh bool) error {
	return b.writeSmall(ctx, ownerKey, text, fresh)
}

// Owned does what Dir.Owned does.
func (b *Bucket) Owned(ctx context.Context) error {
	o, err := b.readOwner(ctx)
	if err != nil {
		return err
	}
	return o.hold(b.id, b.Database)
}

// ClaimBucket does what ClaimDir does. A store that was never opened is NotFound with code blob_missing.
func ClaimBucket(ctx context.Context, p Place, rt http.RoundTripper, database string) error {
	b := looking(p, rt)
	if _, err := b.readIdentity(ctx); err != nil {
		return err
	}
	return b.writeOwner(ctx, ownerText(database, time.Now()), false)
}
