package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestKept: of an object whose bytes are kept it is known which version it is, and whether there are others. What was turned
// away, so that no bytes of it are kept, does not count.
func TestKept(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := must(b.ArrivalIDs(t.Context(), 4))(t)
	arrival := func(i int, mac byte, version, location string) gantry.Arrival {
		return gantry.Arrival{ID: ids[i], Source: "incoming", RefMAC: gantry.Digest{mac}, Version: version, Size: int64(10 + i), SHA: gantry.Digest{byte(i)}, Location: location}
	}
	for i, a := range []gantry.Arrival{arrival(0, 7, "v", "seg/1/0/4096/10"), arrival(1, 7, "w", "seg/1/0/8192/11"), arrival(2, 8, "v", "seg/1/0/12288/12")} {
		x := gantry.Admission{Arrival: a, PublicID: string(rune('a' + i)), Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}
		must(b.Enqueue(t.Context(), []gantry.Admission{x}))(t)
	}
	away := arrival(3, 9, "v", "")
	away.Status, away.Reason = gantry.Unmatched, gantry.CodeNoRoute
	must(b.TurnAway(t.Context(), []gantry.Arrival{away}))(t)
	ask := func(source string, mac byte, version string) postgres.Version {
		return postgres.Version{Source: source, RefMAC: gantry.Digest{mac}, Version: version}
	}
	got := must(b.Kept(t.Context(), []postgres.Version{ask("incoming", 7, "v"), ask("incoming", 7, "x"), ask("incoming", 8, "v"), ask("incoming", 8, ""),
		ask("incoming", 9, "v"), ask("other", 7, "v"), ask("incoming", 1, "v")}))(t)
	want := []postgres.Kept{
		{Arrival: ids[0], Location: "seg/1/0/4096/10", Size: 10, Others: true}, {Others: true},
		{Arrival: ids[2], Location: "seg/1/0/12288/12", Size: 12, SHA: gantry.Digest{2}}, {Others: true}, {}, {}, {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if list := must(b.Kept(t.Context(), nil))(t); len(list) != 0 {
		t.Errorf("%v", list)
	}
}
