package http

import (
	"context"
	"errors"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestSourceWaits(t *testing.T) {
	t.Parallel()
	s, err := NewSource(t.Context(), SourceConfig{MaxMiB: 1}, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(context.Context, gantry.Object) error { t.Error("it announces"); return nil })
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if r, err := s.Open(t.Context(), "x"); r != nil || gantry.KindOf(err) != gantry.NotFound || gantry.CodeOf(err) != gantry.CodeSourceGone {
		t.Errorf("open: %v, %v", r, err)
	}
}

func TestSourceConfig(t *testing.T) {
	t.Parallel()
	for n, ok := range map[int]bool{-1: false, 0: false, 1: true, 2048: true, 1 << 20: true, 1<<20 + 1: false} {
		c := SourceConfig{MaxMiB: n}
		s, err := NewSource(t.Context(), c, drivertest.Egress(t))
		if (err == nil) != ok || (s != nil) != ok || !ok && gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%d MiB: %v, %v", n, s, err)
		}
		if ok && c.Limit() != int64(n)<<20 {
			t.Errorf("%d MiB are %d bytes", n, c.Limit())
		}
	}
	if key := (SourceConfig{}).Target().Key(); key != "upload://api" {
		t.Errorf("target %s", key)
	}
}
