package doctor

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// Trial is a source or a sink that can be tried out.
type Trial struct {
	Name string // source NAME of PIPELINE, or sink
	gantry.Probed
	Failed error // it cannot be opened; then there is nothing else
}

// probeTime bounds all that is tried at one of them.
const probeTime = 30 * time.Second

// trials tries out what each will ask of its server.
func trials(ctx context.Context, list []Trial) (found []Finding) {
	for _, s := range list {
		if s.Failed != nil {
			found = append(found, bad(s.Name, s.Failed.Error(), "look at its settings and credentials in the pipeline file"))
			continue
		}
		found = append(found, probe(ctx, s)...)
	}
	return found
}

func probe(ctx context.Context, s Trial) (found []Finding) {
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
