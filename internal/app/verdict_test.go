package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// What an error means for an object: nothing where it is gone, another try where that may help, up to a number, else never.
func TestVerdict(t *testing.T) {
	t.Parallel()
	td := &tender{App: &App{Settings: Settings{Log: slog.New(slog.DiscardHandler)}}, feed: &feed{name: "p/in"}, told: map[gantry.Code]bool{}}
	busy := gantry.Errorf(gantry.Unavailable, "slow_down", "busy")
	asked := gantry.Errorf(gantry.Unavailable, "slow_down", "busy")
	asked.RetryAfter = 5 * time.Minute
	for _, c := range []struct {
		err   error
		tries int16
		code  gantry.Code
		again time.Duration
	}{
		{nil, 0, "", 0},
		{gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone"), 0, gantry.CodeSourceGone, 0},
		{busy, 0, "slow_down", time.Second},
		{busy, 3, "slow_down", 8 * time.Second},
		{busy, 15, "slow_down", time.Hour},
		{busy, careTries - 1, "slow_down", 0},
		{asked, 0, "slow_down", 5 * time.Minute},
		{gantry.Errorf(gantry.Denied, "access_denied", "no"), 0, "access_denied", 0},
		{gantry.Errorf(gantry.Permanent, "object_locked", "no"), 0, "object_locked", 0},
	} {
		code, again := td.verdict(postgres.Aftercare{Tries: c.tries}, c.err)
		if code != c.code || again != c.again {
			t.Errorf("%v after %d: %s, %s", c.err, c.tries, code, again)
		}
	}
	if len(td.told) != 3 {
		t.Errorf("told %v", td.told)
	}
}
