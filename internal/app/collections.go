package app

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Collections lists collections, the newest first.
func (a *App) Collections(ctx context.Context, f api.CollectionFilter) ([]api.Collection, error) {
	rows, err := a.Store.Collections(ctx, postgres.CollectionFilter(f))
	if err != nil {
		return nil, err
	}
	out := make([]api.Collection, len(rows))
	for i, r := range rows {
		out[i] = api.Collection(r)
	}
	return out, nil
}
