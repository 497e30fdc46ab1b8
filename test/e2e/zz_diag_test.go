package e2e

import (
	"context"
	"testing"
	"time"
)

func diag(t *testing.T, f *fleet, service *foreign) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			var s string
			f.store.Pool().QueryRow(ctx, `select string_agg(g.worker::text||':'||units||'/'||want||case when held_until is null then '' else 'H' end, ' ' order by g.worker) from limit_grant g join limiter l on l.id=g.limiter where l.key like 'http%'`).Scan(&s)
			t.Logf("%s in flight %d seen %d  units/want %s", time.Now().Format("05.000"), service.inFlight.Load(), len(service.seen()), s)
			time.Sleep(150 * time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}
