package app

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestFlushBisects: an arrival that can never be written fails alone; a database that is away fails all at once.
func TestFlushBisects(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	version, err := store.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	c := newCollected(&App{Store: store}, func(time.Duration) { told++ }, func(time.Duration) {})
	batch := func() []*joining {
		var list []*joining
		for i := range 9 {
			a := gantry.Arrival{ID: int64(100*told + i + 1), Source: "p/in", RefMAC: gantry.Digest{byte(i)}, Version: fmt.Sprint("v", told)}
			if i == 5 {
				a.Name = "\x00"
			}
			list = append(list, &joining{done: make(chan error, 1), Gathering: gantry.Gathering{Arrival: a, Pipeline: "p", Version: version, Lane: 1, Rules: gantry.Collect{Cap: time.Hour}}})
		}
		return list
	}
	list := batch()
	c.flush(t.Context(), list)
	for i, j := range list {
		if err := <-j.done; (err != nil) != (i == 5) || err == nil && j.got.Collection == 0 {
			t.Errorf("arrival %d: %+v, %v", i, j.got, err)
		}
	}
	if told != 8 {
		t.Errorf("told of %d", told)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	list = batch()
	c.flush(gone, list)
	for i, j := range list {
		if err := <-j.done; err == nil {
			t.Errorf("arrival %d was written", i)
		}
	}
}

// TestCloserAway: a database that is away is asked again after a while, and one without collections now and then.
func TestCloserAway(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	c := newCloser(&App{Settings: Settings{Log: slog.New(slog.DiscardHandler)}, Store: store, rand: func() float64 { return 0.5 }}, func(...int32) {})
	if again := c.look(t.Context()); again != closeIdle {
		t.Errorf("without collections it looks again after %s", again)
	}
	store.Close()
	if again := c.look(t.Context()); again != closeLook {
		t.Errorf("without a database it looks again after %s", again)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.run(ctx); close(ended) }()
	c.due(time.Millisecond) // it is told while it waits
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}

// TestCloserIsTold: what is due earlier than the next look is looked for then, and what is due later changes nothing.
func TestCloserIsTold(t *testing.T) {
	t.Parallel()
	c := newCloser(&App{}, nil)
	c.next = time.Now().Add(time.Hour)
	c.due(2 * time.Hour)
	if len(c.kick) != 0 || c.wait() < 59*time.Minute {
		t.Error("a later end woke it")
	}
	c.due(time.Minute)
	c.due(time.Second)
	if len(c.kick) != 1 || c.wait() > time.Second {
		t.Errorf("it waits %s", c.wait())
	}
}

// TestCloserDuringLook: what is opened while the closer looks, and is due at once, is not put off to the look after the next.
func TestCloserDuringLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloser(&App{}, nil)
		c.begin()
		c.due(closeSoon)
		c.end(closeIdle) // it saw nothing yet
		if wait := c.wait(); wait > closeSoon {
			t.Errorf("the next look is in %s", wait)
		}
		time.Sleep(time.Second)
		c.begin()
		c.end(closeLook)
		if wait := c.wait(); wait != closeLook {
			t.Errorf("the next look is in %s", wait)
		}
	})
}
