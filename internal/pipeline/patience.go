package pipeline

import "github.com/gantry-imaging/gantry/internal/gantry"

// checkPatience refuses a sink whose server may take longer to confirm than a task may respond: the task would fail in the middle.
func (d *decoder) checkPatience(f *file) {
	for _, name := range sorted(f.Sinks) {
		x, ok := f.Sinks[name].Config.(gantry.Patient)
		if !ok || x.Patience() < f.Timeouts.Responding || f.Timeouts.Responding == 0 {
			continue
		}
		d.at(d.keyOf(join("sinks", name)), "sink %s may be waited for for %s, and timeouts.responding is %s", short(name),
			formatDuration(x.Patience()), formatDuration(f.Timeouts.Responding))
	}
}
