package app

import (
	"context"
	"fmt"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// CodeOtherPlace says that a source took from another bucket until now.
const CodeOtherPlace gantry.Code = "other_place"

// settle puts on record where the sources of pipelines and shared ones take from. It refuses those that took from elsewhere: what
// has the same keys here would be taken for known.
func (a *App) settle(ctx context.Context, pipelines []*gantry.Pipeline, shared []gantry.Shared) error {
	var list []postgres.SourcePlace
	now := map[string]string{} // by source
	add := func(name string, e gantry.Endpoint) {
		if p, ok := e.Config.(gantry.Placed); ok {
			now[name] = p.Place()
			list = append(list, postgres.SourcePlace{Source: name, Kind: e.Kind, Place: now[name]})
		}
	}
	for _, p := range pipelines {
		for _, e := range p.Sources {
			add(p.Name+"/"+e.Name, e)
		}
	}
	for _, s := range shared {
		add(s.Name, s.Endpoint)
	}
	if len(list) == 0 {
		return nil
	}
	elsewhere, err := a.Store.SettleSources(ctx, list)
	if err != nil || len(elsewhere) == 0 {
		return err
	}
	var texts []string
	for _, x := range elsewhere {
		texts = append(texts, fmt.Sprintf("source %s took from %s until now, and is to take from %s: give it another name; or, if they are one bucket, gantry source moved %[1]s",
			x.Source, x.Place, now[x.Source]))
	}
	return gantry.Errorf(gantry.Illegal, CodeOtherPlace, "%s", strings.Join(texts, "\n"))
}
