package pipeline

import (
	"fmt"
	"maps"
	"slices"
)

// checkStages holds stages against the processors, and their names against one another.
func (d *decoder) checkStages(f *file) {
	procs := d.references("processor", "processors", slices.Collect(maps.Keys(f.Processors)))
	seen := map[string]bool{}
	for i, s := range f.Stages {
		at := fmt.Sprintf("stages[%d]", i)
		switch {
		case s.Name == "":
		case !isName(s.Name):
			d.at(d.placeOf(join(at, "name")).value, "name: %s is no name; a name has 1 to 63 of a-z, 0-9 and -", short(s.Name))
		case seen[s.Name]:
			d.at(d.placeOf(join(at, "name")).value, "name: another stage is called %s", short(s.Name))
		}
		seen[s.Name] = true
		if len(s.Call) == 0 {
			procs.unsure = true
		}
		if len(s.Call) > 1 && s.Mode == "sequential" {
			d.at(d.placeOf(join(at, "call")).value, "call: a sequential stage calls one processor, here are %d", len(s.Call))
		}
		for j, name := range s.Call {
			d.use(procs, name, fmt.Sprintf("%s[%d]", join(at, "call"), j))
		}
	}
	procs.unsure = procs.unsure || len(f.Stages) == 0
	d.unused(procs, "processors")
}

// checkAuth holds the uses of credentials against their definitions.
func (d *decoder) checkAuth(f *file) {
	auths := d.references("auth", "auth", slices.Collect(maps.Keys(f.Auth)))
	use := func(path, name string) {
		if name != "" {
			d.use(auths, name, join(path, "auth"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Sources)) {
		use(join("sources", name), f.Sources[name].Auth)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Processors)) {
		use(join("processors", name), f.Processors[name].Auth)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Sinks)) {
		use(join("sinks", name), f.Sinks[name].Auth)
	}
	d.unused(auths, "auth")
}
