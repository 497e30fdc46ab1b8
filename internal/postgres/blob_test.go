package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestBlobUseIsComplete finds every column of the schema that holds locations. One that is new has to be looked at by blob_use as
// well: what that view does not know is garbage.
func TestBlobUseIsComplete(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	rows, err := b.Pool().Query(t.Context(), `select c.table_name from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
		where c.table_schema = 'gantry' and t.table_type = 'BASE TABLE' and c.column_name like '%location%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if partition := strings.Contains(name, "_p20") || strings.HasSuffix(name, "_default"); !partition && name != "blob" {
			tables = append(tables, name)
		}
	}
	var view string
	if err := b.Pool().QueryRow(t.Context(), `select pg_get_viewdef('blob_use'::regclass)`).Scan(&view); err != nil {
		t.Fatal(err)
	}
	slices.Sort(tables)
	if diff := cmp.Diff([]string{"arrival", "callback", "inbox", "item"}, tables); diff != "" {
		t.Errorf("tables with locations (-known +there):\n%s", diff)
	}
	for _, name := range tables {
		if !strings.Contains(view, "FROM "+name) {
			t.Errorf("blob_use does not look at %s", name)
		}
	}
}

// TestBlobUseIsIndexed wants each place that may refer to a blob to be looked up, not read.
func TestBlobUseIsIndexed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	tx, err := b.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `set local enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), `explain select location from blob b where location = any(array(select 'sha/x')) and not exists (select from blob_use u where u.location = b.location)`)
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	for _, index := range []string{"item_blob", "arrival_blob", "callback_blob", "inbox_blob"} {
		if !strings.Contains(plan.String(), index) {
			t.Errorf("%s is not used:\n%s", index, plan.String())
		}
	}
}

// TestKeepBlob writes a row, revives it, and does not while it is leaving; a deletion that took too long has ended.
func TestKeepBlob(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := gantry.KeptBlob{Location: "sha/aa", Worker: b.worker, Size: 7, SHA: gantry.Digest{1}}
	keep := func(leaving bool) {
		t.Helper()
		if got := must(b.KeepBlob(t.Context(), x))(t); got != leaving {
			t.Errorf("leaving %v, want %v", got, leaving)
		}
	}
	doom := func() []gantry.DoomedBlob {
		t.Helper()
		b.exec(`update blob set at = at - interval '8 days'`)
		if _, _, _, err := b.TombBlobs(t.Context(), "", 10, time.Hour, false); err != nil {
			t.Fatal(err)
		}
		b.exec(`update blob set tomb_at = tomb_at - interval '8 days'`)
		return must(b.DoomBlobs(t.Context(), 7*24*time.Hour, 10))(t)
	}
	keep(false)
	first := doom()
	if len(first) != 1 || first[0].Location != "sha/aa" || first[0].Size != 7 {
		t.Fatalf("doomed %+v", first)
	}
	keep(true)
	if again := doom(); len(again) != 0 {
		t.Errorf("doomed twice: %+v", again)
	}
	b.exec(`update blob set leaving_at = leaving_at - interval '39 minutes'`)
	keep(true)
	b.exec(`update blob set leaving_at = leaving_at - interval '2 minutes'`)
	keep(false)
	if err := b.BlobGone(t.Context(), first[0]); err != nil {
		t.Fatal(err)
	}
	second := doom()
	if len(second) != 1 {
		t.Fatalf("a deletion that was taken for dead removed the row of what was committed since: %+v", second)
	}
	if err := b.SpareBlobs(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	third := must(b.DoomBlobs(t.Context(), 7*24*time.Hour, 10))(t)
	if len(third) != 1 {
		t.Errorf("spared, and then doomed %+v", third)
	}
	if err := b.BlobGone(t.Context(), third[0]); err != nil {
		t.Fatal(err)
	}
	if n, _, err := b.DueBlobs(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("%d rows are left: %v", n, err)
	}
}

// TestTombBlobsPages goes through the rows in pages.
func TestTombBlobsPages(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var list []gantry.KeptBlob
	for i := range 25 {
		list = append(list, gantry.KeptBlob{Location: "sha/" + string(rune('a'+i)), Size: 1, SHA: gantry.Digest{1}, At: time.Now().Add(-48 * time.Hour)})
	}
	for i, want := range []int{25, 25, 0} {
		if n := must(b.AdoptBlobs(t.Context(), list, i == 0))(t); n != want {
			t.Errorf("adopted %d, want %d", n, want)
		}
	}
	tombs, pages := 0, 0
	for after := ""; ; pages++ {
		next, n, size, err := b.TombBlobs(t.Context(), after, 10, time.Hour, false)
		if err != nil || size != int64(n) {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
		if tombs += n; next == "" {
			break
		}
		after = next
	}
	if tombs != 25 || pages != 3 {
		t.Errorf("%d tombstones in %d pages", tombs, pages)
	}
}

// TestBlobStore keeps the first identity that was claimed.
func TestBlobStore(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, c := range []struct {
		id    string
		claim bool
		known string
	}{{"one", false, ""}, {"one", true, "one"}, {"two", true, "one"}, {"two", false, "one"}} {
		if known := must(b.BlobStore(t.Context(), c.id, c.claim))(t); known != c.known {
			t.Errorf("%+v: the database belongs to %q", c, known)
		}
	}
}

// TestDatabaseID keeps the first id, which doctor sees too; a database that has none yet says so.
func TestDatabaseID(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.DSN(t)
	b, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if c := must(postgres.Inspect(t.Context(), dsn, time.Now))(t); c.ID != "" {
		t.Errorf("a new database is called %q", c.ID)
	}
	for _, fresh := range []string{"one", "two"} {
		if id := must(b.DatabaseID(t.Context(), fresh))(t); id != "one" {
			t.Errorf("asked with %s: %q", fresh, id)
		}
	}
	if c := must(postgres.Inspect(t.Context(), dsn, time.Now))(t); c.ID != "one" {
		t.Errorf("inspected as %q", c.ID)
	}
}
