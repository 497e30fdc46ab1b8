package pipeline

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// archive is one that is asked how many instances a study or series has. The keys of its kind's driver stand beside these, which
// have no defaults in their tags, as those of group have none.
type archive struct {
	Kind    string        `yaml:"kind" required:"true" doc:"The driver."`
	Auth    string        `yaml:"auth" filled:"true" doc:"The name of a block under auth."`
	Steady  time.Duration `yaml:"steady" min:"1ms" max:"1d" doc:"A count closes only once the archive has given the same for so long; 1s without it. Where the archive gets a study at the same time as gantry, longer than its longest pause."`
	Missing string        `yaml:"missing" one:"wait close" doc:"What quiet does while fewer are here than the archive counts: wait, for them or for cap, which is so without it; close, all the same."`
	Timeout time.Duration `yaml:"timeout" min:"1ms" max:"5m" doc:"Of one question; 10s without it."`
	AtOnce  int           `yaml:"at_once" min:"1" max:"100" doc:"Questions at once, of one process; 4 without it."`
	Config  any           `yaml:",kind"`
}

// asks tells whether an archive is asked.
func (a archive) asks() bool { return a.Kind != "" }

// checkExpect holds the archive of a group against its other keys.
func (g group) checkExpect() []gantry.FieldProblem {
	by := gantry.GroupBy(g.By)
	if !g.Expect.asks() || by == gantry.GroupStudy || by == gantry.GroupSeries {
		return nil
	}
	return []gantry.FieldProblem{{Key: "expect", Text: fmt.Sprintf("it goes with by: study or series, which an archive can count, not with by: %s", g.By)}}
}

// build gives the archive as it is asked; nil if there is none.
func (a archive) build(auth map[string]auth) *gantry.Expect {
	if !a.asks() {
		return nil
	}
	e := endpoint{Kind: a.Kind, Auth: a.Auth, Config: a.Config}
	return &gantry.Expect{
		Endpoint: e.build("", auth), Steady: cmp.Or(a.Steady, gantry.DefaultSteady), Timeout: cmp.Or(a.Timeout, gantry.DefaultExpect),
		AtOnce: cmp.Or(a.AtOnce, gantry.DefaultAtOnce), Missing: gantry.MissingPolicy(cmp.Or(a.Missing, string(gantry.MissingWait))),
	}
}

// checkArchive refuses an archive whose credential is for another protocol.
func (d *decoder) checkArchive(f *file, use func(path string, e endpoint)) {
	a := f.Group.Expect
	if !a.asks() {
		return
	}
	use("group.expect", endpoint{Auth: a.Auth})
	if t, ok := a.Config.(gantry.Targeted); ok && a.Auth != "" && !strings.HasPrefix(t.Target().Scheme, "http") {
		d.at(d.keyOf("group.expect.auth"), "auth: it is for requests over HTTP, and an archive of kind %s has none", a.Kind)
	}
}
