package app

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/doctor"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Diagnose looks at the installation that the settings name, and at the targets of pipelines. The
// error is one of the settings themselves.
func Diagnose(ctx context.Context, s Settings, pipelines []*gantry.Pipeline) ([]doctor.Finding, error) {
	s = s.withDefaults()
	key, err := hex.DecodeString(strings.TrimSpace(s.Key))
	if err != nil {
		return nil, errors.New("deployment key: it is not hexadecimal")
	}
	p := &plans{app: &App{Settings: s}}
	defer p.leave()
	o := doctor.Options{Home: s.Home, DatabaseURL: s.DatabaseURL, Blobs: s.Blobs, Key: key, Pipelines: pipelines, Now: time.Now,
		Trials: p.trials(ctx, pipelines)}
	if s.inBucket() {
		o.Blobs, o.Bucket = s.Home, func(ctx context.Context) (blob.About, error) { return s.inspectBucket(ctx, key) }
	}
	return doctor.Examine(ctx, o), nil
}

// trials opens the sources and sinks of pipelines that can be tried out.
func (p *plans) trials(ctx context.Context, pipelines []*gantry.Pipeline) (out []doctor.Trial) {
	s := p.app.Settings
	try := func(name string, e gantry.Endpoint, open func(gantry.Egress) (any, error)) {
		if targetOf(e.Config).Scheme == "dir" || s.Drivers == nil {
			return // opening it would make the folder
		}
		egress, err := p.egress(targetOf(e.Config), e.Auth, objects)
		if err == nil {
			egress, err = p.branched(e, egress, func(string) (int32, error) { return 0, nil })
		}
		var opened any
		if err == nil {
			opened, err = open(egress)
			p.stay(opened)
		}
		if probed, ok := opened.(gantry.Probed); ok || err != nil {
			out = append(out, doctor.Trial{Name: name, Probed: probed, Failed: err})
		}
		if h, ok := opened.(gantry.Hooked); ok && h.HookToken() != "" {
			if _, err := auth.Resolve(h.HookToken(), s.Lookup); err != nil {
				out = append(out, doctor.Trial{Name: name + ": webhook", Failed: err})
			}
		}
	}
	for _, x := range pipelines {
		for _, e := range x.Sources {
			try("source "+e.Name+" of "+x.Name, e, func(out gantry.Egress) (any, error) { return s.Drivers.NewSource(ctx, e.Kind, e.Config, out) })
		}
		for _, e := range x.Sinks {
			try("sink "+e.Name+" of "+x.Name, e, func(out gantry.Egress) (any, error) { return s.Drivers.NewSink(ctx, e.Kind, e.Config, out) })
		}
	}
	return out
}
