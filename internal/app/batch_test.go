package app

import (
	"context"
	"testing"
)

// TestTogether takes what is there and waits for no more, takes no more than it may, and ends with ctx.
func TestTogether(t *testing.T) {
	t.Parallel()
	queue := make(chan int, 2*mostTogether)
	for n := range mostTogether + 3 {
		queue <- n
	}
	if got := together(t.Context(), queue); len(got) != mostTogether || got[0] != 0 || got[mostTogether-1] != mostTogether-1 {
		t.Errorf("%d came together first", len(got))
	}
	if got := together(t.Context(), queue); len(got) != 3 || got[0] != mostTogether {
		t.Errorf("then %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := together(ctx, queue); got != nil {
		t.Errorf("after the end %v", got)
	}
}
