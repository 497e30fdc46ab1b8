package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Owe puts on record that a peer is owed an answer. Its request goes by a code.
func (r *receiving) Owe(ctx context.Context, d gantry.Debt, hold time.Duration) (gantry.Debt, error) {
	d.Peer = clean(d.Peer)
	d, err := r.app.Store.Owe(ctx, r.feed.name, gantry.MAC(r.app.Key, "debt", r.feed.name, d.Peer, d.Name), d, hold)
	fail.Point("after_owe")
	return d, err
}

// Due gives what is to be paid now.
func (r *receiving) Due(ctx context.Context, n int, hold time.Duration) ([]gantry.Debt, error) {
	return r.app.Store.DueDebts(ctx, r.feed.name, n, hold)
}

// Postpone has a debt wait.
func (r *receiving) Postpone(ctx context.Context, d gantry.Debt, by time.Duration) error {
	return r.app.Store.PostponeDebt(ctx, d, by)
}

// Settle ends a debt.
func (r *receiving) Settle(ctx context.Context, d gantry.Debt, given gantry.Code) error {
	fail.Point("before_settle")
	return r.app.Store.SettleDebt(ctx, d, given)
}
