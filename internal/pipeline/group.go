package pipeline

import (
	"cmp"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// group divides the media of an archive, and, once it says when a collection is complete, puts arrivals
// together. Its keys have no defaults in their tags: they would stand in the versions of files without it.
type group struct {
	By     string        `yaml:"by" required:"true" one:"study series patient prefix" doc:"What members have in common: a DICOM attribute, or the folder that they lie in below the source's prefix."`
	Depth  int           `yaml:"depth" min:"1" max:"64" doc:"Of by: prefix, how many folders of the path count: those of 1 are below the source's prefix. Without it the whole path to the file."`
	Quiet  time.Duration `yaml:"quiet" min:"1ms" max:"7d" doc:"Closed when nothing came for so long. With marker that counts only once the marker has come; there it is 5s without it."`
	Count  int           `yaml:"count" min:"1" max:"1000000" doc:"Closed with so many members. A later release also takes it from an attribute of the members."`
	Marker string        `yaml:"marker" filled:"true" doc:"A file of this name, or pattern of names, says that all are there. It is no member. Only with by: prefix; with depth it is about the path below the last folder that counts."`
	Cap    time.Duration `yaml:"cap" min:"1ms" max:"30d" doc:"Closed so long after the first arrival at the latest; without it 24h, with expect 1h."`
	Late   string        `yaml:"late" one:"rerun append ignore" doc:"What becomes of files that come after that: rerun, a further task with all of them, which is so without it; append, a further task with these alone; ignore, they stay on record. docs/collections.md."`
	Expect archive       `yaml:"expect" role:"archive" doc:"An archive that is asked how many there are; only with by: study or series. Closed with so many; quiet waits for those that are missing. docs/collections.md."`
}

const (
	defaultCap    = 24 * time.Hour
	expectedCap   = time.Hour       // where an archive may count what never comes
	afterTheLast  = 5 * time.Second // quiet after a marker
	wantsAnEnd    = "wants quiet, count, marker or cap: else nothing says when a task is made"
	goesWithAnEnd = "it goes with quiet, count, marker, cap or expect, which put arrivals together"
)

// collects tells whether arrivals are put together.
func (g group) collects() bool {
	return g.Quiet > 0 || g.Count > 0 || g.Marker != "" || g.Cap > 0 || g.Expect.asks()
}

// Check holds the keys of a group against one another.
func (g group) Check() (found []gantry.FieldProblem) {
	bad := func(key, format string, args ...any) {
		found = append(found, gantry.FieldProblem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	prefix := g.By == string(gantry.GroupPrefix)
	if prefix && !g.collects() {
		bad("by", "prefix %s", wantsAnEnd)
	}
	if g.Depth > 0 && !prefix {
		bad("depth", "it goes with by: prefix, not with by: %s", g.By)
	}
	if g.Late != "" && !g.collects() {
		bad("late", goesWithAnEnd)
	}
	if g.Cap > 0 && g.Quiet > g.Cap {
		bad("cap", "%s is shorter than quiet, %s", formatDuration(g.Cap), formatDuration(g.Quiet))
	}
	found = append(found, g.checkExpect()...)
	if g.Marker == "" {
		return found
	}
	switch _, err := path.Match(g.Marker, ""); {
	case !prefix:
		bad("marker", "it goes with by: prefix, since it lies in a folder and in no %s", g.By)
	case err != nil:
		bad("marker", "%s is no pattern of names", short(g.Marker))
	case g.Depth == 0 && strings.Contains(g.Marker, "/"):
		bad("marker", "a name without a slash, since without depth every folder counts")
	}
	return found
}

// checkMarker refuses a marker that a source would never announce: every collection would wait for its cap.
func (d *decoder) checkMarker(f *file) {
	if f.Group.Marker == "" || strings.ContainsAny(f.Group.Marker, `*?[\`) {
		return
	}
	for _, name := range sorted(f.Sources) {
		if s, ok := f.Sources[name].Config.(gantry.Picky); ok && !s.Wants(path.Base(f.Group.Marker)) {
			d.at(d.placeOf("group.marker").value, "marker: source %s takes no file of this name; its pattern has to let it in", short(name))
		}
	}
}

// rerunsAgain is what is wrong with a source that takes objects away which a later revision of their collection reads again.
const rerunsAgain = "takes objects away that a rerun for a late one would read again: say copy: always, or late: append or ignore in group"

// checkReruns refuses such sources.
func (d *decoder) checkReruns(f *file) {
	c := f.Group.collect(nil)
	for _, name := range sorted(f.Sources) {
		if key := fleets(f.Sources[name].Config, c); key != "" {
			d.at(d.placeOf(join("sources", name)+"."+key).value, "%s: source %s %s", key, short(name), rerunsAgain)
		}
	}
}

// fleets gives the key by which the source of a config takes objects away that a collection reads again; empty if it has none.
func fleets(source any, c *gantry.Collect) string {
	f, ok := source.(gantry.Fleeting)
	if !ok || c == nil || c.Late != gantry.LateRerun {
		return ""
	}
	return f.Fleeting()
}

// divide says what the media of one archive are divided by.
func (g group) divide() gantry.GroupBy {
	if g.By == string(gantry.GroupPrefix) {
		return gantry.GroupNone
	}
	return gantry.GroupBy(g.By)
}

// collect gives the rules by which arrivals are put together; nil if they are not.
func (g group) collect(auth map[string]auth) *gantry.Collect {
	if !g.collects() {
		return nil
	}
	latest := defaultCap
	if g.Expect.asks() {
		latest = expectedCap
	}
	c := &gantry.Collect{By: gantry.GroupBy(g.By), Depth: g.Depth, Quiet: g.Quiet, Count: g.Count, Marker: g.Marker,
		Cap: cmp.Or(g.Cap, max(latest, g.Quiet)), Late: gantry.LatePolicy(cmp.Or(g.Late, string(gantry.LateRerun))), Expect: g.Expect.build(auth)}
	if c.Marker != "" && c.Quiet == 0 {
		c.Quiet = min(afterTheLast, c.Cap)
	}
	return c
}
