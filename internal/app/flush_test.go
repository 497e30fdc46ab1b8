package app

import (
	"context"
	"fmt"
	"testing"
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
	c := newCollected(&App{Store: store}, func(time.Duration) { told++ })
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
