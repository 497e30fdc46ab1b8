package doctor

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// Sink is a sink that can be tried out.
type Sink struct {
	Name string // sink NAME of PIPELINE
	gantry.Probed
	Failed error // it cannot be opened; then there is nothing else
}

// probeTime bounds all that is tried at one sink.
const probeTime = 30 * time.Second

// sinks tries out what each sink will ask of its server.
func sinks(ctx context.Context, list []Sink) (found []Finding) {
	for _, s := range list {
		if s.Failed != nil {
			found = append(found, bad(s.Name, s.Failed.Error(), "look at its settings and credentials in the pipeline file"))
			continue
		}
		found = append(found, probe(ctx, s)...)
	}
	return found
}

func probe(ctx context.Context, s Sink) (found []Finding) {
	m := gate.NewMeter(time.Now)
	m.Several()
	ctx, cancel := context.WithTimeout(gate.WithMeter(ctx, m), probeTime)
	defer cancel()
	for _, x := range s.Probe(ctx) {
		check := s.Name + ": " + x.Check
		switch {
		case x.Bad:
			found = append(found, bad(check, x.Text, x.Advice))
		case x.Advice != "":
			found = append(found, doubt(check, x.Text, x.Advice))
		default:
			found = append(found, well(check, x.Text))
		}
	}
	return found
}
