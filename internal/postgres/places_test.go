package postgres_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// placed gives what is on record of where sources take from; - where there is no row.
func (b *bed) placed(sources ...string) (out []string) {
	b.t.Helper()
	for _, s := range sources {
		var place string
		if err := b.Pool().QueryRow(b.t.Context(), `select coalesce((select coalesce(place, '') from source_state where source = $1), '-')`, s).Scan(&place); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, place)
	}
	return out
}

// TestSettleSources puts a place down once, also of a source that an older version watched, and leaves all as it was where one is elsewhere.
func TestSettleSources(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if _, err := b.ReportSource(t.Context(), postgres.SourceReport{Source: "p/old", Kind: "s3", Progress: []byte("sealed"), Worst: -1}); err != nil {
		t.Fatal(err)
	}
	settle := func(want []postgres.SourcePlace, list ...postgres.SourcePlace) {
		t.Helper()
		got := must(b.SettleSources(t.Context(), list))(t)
		if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
			t.Error(diff)
		}
	}
	at := func(source, place string) postgres.SourcePlace {
		return postgres.SourcePlace{Source: source, Kind: "s3", Place: place}
	}
	settle(nil, at("p/old", "one"), at("p/in", "one"))
	settle(nil, at("p/in", "one"), at("p/old", "one"))
	b.exec(`insert into source_state(source) values ('p/null')`)
	settle([]postgres.SourcePlace{at("p/in", "one"), at("p/old", "one")}, at("p/old", "two"), at("p/null", "one"), at("p/new", "one"), at("p/in", "three"))
	if diff := cmp.Diff([]string{"one", "one", "", "-"}, b.placed("p/old", "p/in", "p/null", "p/new")); diff != "" {
		t.Error(diff)
	}
	if _, err := b.ReportSource(t.Context(), postgres.SourceReport{Source: "p/in", Kind: "s3", Worst: -1}); err != nil {
		t.Fatal(err)
	}
	if got := b.placed("p/in"); got[0] != "one" {
		t.Errorf("a report made it %s", got)
	}
	for _, want := range []string{"one", ""} { // it may be said twice
		if got := must(b.SourceMoved(t.Context(), "p/old"))(t); got != want {
			t.Errorf("it was at %q, want %q", got, want)
		}
	}
	if p := must(b.SourceProgress(t.Context(), "p/old"))(t); string(p) != "sealed" {
		t.Errorf("its progress is %q", p)
	}
	settle(nil, at("p/old", "two"), at("p/in", "one"))
	if _, err := b.SourceMoved(t.Context(), "p/nobody"); gantry.KindOf(err) != gantry.NotFound {
		t.Errorf("one that nobody watched: %v", err)
	}
}

// TestSettleSourcesAtOnce: of many that begin at once with other places, those of one begin.
func TestSettleSourcesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const n = 12
	var settled, refused [2]int
	var mu sync.Mutex
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() {
			place := fmt.Sprint(i % 2)
			list := []postgres.SourcePlace{{Source: "p/a", Place: place}, {Source: "p/b", Place: place}, {Source: "p/c", Place: place}}
			if i%3 == 0 {
				slices.Reverse(list)
			}
			elsewhere, err := b.SettleSources(t.Context(), list)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case len(elsewhere) == 0:
				settled[i%2]++
			case len(elsewhere) == len(list):
				refused[i%2]++
			default:
				t.Errorf("elsewhere: %v", elsewhere)
			}
		})
	}
	g.Wait()
	if got := b.placed("p/a", "p/b", "p/c"); got[0] != got[1] || got[1] != got[2] ||
		settled != map[string][2]int{"0": {n / 2, 0}, "1": {0, n / 2}}[got[0]] || refused != map[string][2]int{"0": {0, n / 2}, "1": {n / 2, 0}}[got[0]] {
		t.Errorf("on record %v, settled %v, refused %v", got, settled, refused)
	}
}
