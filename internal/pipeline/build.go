package pipeline

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// checkVersion looks at the key that says how the rest is to be read. It gives false if nothing
// else in the file is worth a look.
func (d *decoder) checkVersion() bool {
	if d.resolved || d.root.Kind != yaml.MappingNode {
		return true
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		k, v := d.root.Content[i], d.root.Content[i+1]
		switch {
		case k.Value != "gantry":
			continue
		case v.Kind == yaml.ScalarNode && v.Value != "v1":
			d.at(v, "gantry: %s is not a grammar that this release reads%s", short(v.Value), didYouMean("v1"))
			return false
		case i > 0:
			d.at(k, "gantry: v1 must be the first key")
		}
		return true
	}
	if len(d.root.Content) == 0 || nearest(d.root.Content[0].Value, []string{"gantry"}) == "" {
		d.at(d.root, "gantry: v1 must be the first key")
	}
	return true
}

// references is the use that one part of a file makes of names that another part defines.
type references struct {
	what    string
	defined []string
	used    map[string]bool
	unsure  bool // a mistake elsewhere hides a name, so nothing can be called unused
}

// references begins with what is defined under a top-level key.
func (d *decoder) references(what, key string, defined []string) *references {
	r := &references{what: what, defined: defined, used: map[string]bool{}}
	slices.Sort(r.defined)
	return r
}

// use notes one use of a name, at the path where it stands.
func (d *decoder) use(r *references, name, path string) {
	if name == "" {
		r.unsure = true
		return
	}
	if slices.Contains(r.defined, name) {
		r.used[name] = true
		return
	}
	hint := nearest(name, r.defined)
	r.used[hint] = true
	d.at(d.placeOf(path).value, "%s: no %s %s%s", last(path), r.what, short(name), didYouMean(hint))
}

// unused reports the definitions under a key that nothing uses.
func (d *decoder) unused(r *references, key string) {
	for _, name := range r.defined {
		if !r.used[name] && !r.unsure {
			d.at(d.keyOf(join(key, name)), "%s %s is used by nothing", r.what, short(name))
		}
	}
}

// checkNames holds the parts of a file against one another.
func (d *decoder) checkNames(f *file) {
	if f.Name != "" && !isName(f.Name) {
		d.at(d.placeOf("name").value, "name: %s is no name; a name has 1 to 63 of a-z, 0-9 and -", short(f.Name))
	}
	d.checkStages(f)
	d.checkAuth(f)
}
