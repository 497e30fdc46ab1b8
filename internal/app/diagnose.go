package app

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

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
		Sinks: p.probed(ctx, pipelines)}
	if s.inBucket() {
		o.Blobs, o.Bucket = s.Home, func(ctx context.Context) (string, error) { return s.inspectBucket(ctx, key) }
	}
	return doctor.Examine(ctx, o), nil
}

// probed opens the sinks of pipelines that can be tried out.
func (p *plans) probed(ctx context.Context, pipelines []*gantry.Pipeline) (out []doctor.Sink) {
	for _, x := range pipelines {
		for _, e := range x.Sinks {
			name := "sink " + e.Name + " of " + x.Name
			if targetOf(e.Config).Scheme == "dir" || p.app.Drivers == nil {
				continue // opening it would make the folder
			}
			egress, err := p.egress(targetOf(e.Config), e.Auth, objects)
			var sink gantry.Sink
			if err == nil {
				sink, err = p.app.Drivers.NewSink(ctx, e.Kind, e.Config, egress)
				p.stay(sink)
			}
			if probed, ok := sink.(gantry.Probed); ok || err != nil {
				out = append(out, doctor.Sink{Name: name, Probed: probed, Failed: err})
			}
		}
	}
	return out
}
