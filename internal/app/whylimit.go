package app

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// limit finds a limit by its row.
func (t *telling) limit(id int32) *postgres.FactLimit {
	return t.limitWhere(func(x postgres.FactLimit) bool { return x.ID == id })
}

// limitOf finds a limit by its key.
func (t *telling) limitOf(key string) *postgres.FactLimit {
	return t.limitWhere(func(x postgres.FactLimit) bool { return x.Key == key })
}

func (t *telling) limitWhere(is func(postgres.FactLimit) bool) *postgres.FactLimit {
	if i := slices.IndexFunc(t.Limits, is); i >= 0 {
		return &t.Limits[i]
	}
	return nil
}

// holding lists who has units of a limit, and puts it into words.
func (t *telling) holding(l *postgres.FactLimit, what string) (list []api.Holder, text string) {
	var who []string
	for _, h := range l.Holders {
		x, alive := t.process(h.Process)
		list = append(list, api.Holder{Process: h.Process, Host: h.Host, Units: h.Units, HeldUntil: h.HeldUntil})
		switch {
		case h.HeldUntil != nil:
			who = append(who, fmt.Sprintf("process %d, which is gone (%s until %s)", h.Process, plural(h.Units, what), t.at(*h.HeldUntil)))
		case h.Host == "", x.Host != "" && !alive:
			who = append(who, fmt.Sprintf("process %d, which is gone (%s)", h.Process, plural(h.Units, what)))
		default:
			who = append(who, fmt.Sprintf("process %d (%s, %s)", h.Process, h.Host, plural(h.Units, what)))
		}
	}
	return list, few(who)
}

// stopped says that nothing may begin under a limit, and tells whether that is so.
func (t *telling) stopped(l *postgres.FactLimit, code, what string) bool {
	switch {
	case l.PausedBy != "" && l.PausedAt != nil:
		t.say(api.Cause{Code: code, Limit: l.Key}, "%s may begin: %s paused %s at %s, gantry resume %s ends that.", what, l.PausedBy, l.Key, t.at(*l.PausedAt), l.Key)
	case l.Units != 0:
		return false
	case l.SetBy != "":
		t.say(api.Cause{Code: code, Limit: l.Key}, "%s may begin: %s set the limit of %s to 0, gantry limits set %s changes that.", what, l.SetBy, l.Key, l.Key)
	default:
		t.say(api.Cause{Code: code, Limit: l.Key}, "%s may begin: the limit of %s is 0.", what, l.Key)
	}
	return true
}

// pipelineLimit says what the limit of tasks in progress holds up.
func (t *telling) pipelineLimit(l *postgres.FactLimit) {
	if t.stopped(l, WhyPipelineStop, "No task of its pipeline") || l.Units < 0 || l.InUse < l.Units {
		return
	}
	c := api.Cause{Code: WhyInProgress, Limit: l.Key}
	var who string
	c.Holders, who = t.holding(l, "task")
	t.say(c, "%d of %d tasks of %s are in progress, held by %s.", l.InUse, l.Units, t.Lane.Pipeline, who)
}

// stateLimit says what the limit of the task's state holds up. One that has calls on record is past it.
func (t *telling) stateLimit() {
	l := t.limitOf(stateKey(t.Lane.Pipeline, t.State))
	if l == nil || len(t.Calls) > 0 || t.stopped(l, WhyPipelineStop, "Nothing in state "+t.State.String()) {
		return
	}
	if l.Units < 0 || l.InUse < l.Units || l.Waiting == 0 {
		return
	}
	c := api.Cause{Code: WhyStateFull, Limit: l.Key}
	var who string
	c.Holders, who = t.holding(l, "task")
	text := "it waits for one of them to end that"
	if t.State != gantry.Inferring { // nothing on record tells whether it is one of them
		text += ", or is one of them"
	}
	t.say(c, "%d of %d tasks of %s are %s, held by %s: %s.", l.InUse, l.Units, t.Lane.Pipeline, t.State, who, text)
}

// targets says what holds up calls that the task has to make.
func (t *telling) targets() {
	var keys []string
	switch {
	case t.p == nil:
	case t.State == gantry.Responding:
		for _, x := range t.p.Sinks {
			keys = append(keys, targetOf(x.Config).Key())
		}
	case t.State == gantry.Inferring:
		for _, x := range t.Parts {
			if x.Planned > x.Later || t.Phase == gantry.Delayed && x.Planned > 0 {
				_, key := t.processor(x.Processor)
				keys = append(keys, key)
			}
		}
	}
	for _, x := range t.Calls {
		keys = append(keys, x.Target)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if l := t.limitOf(key); l != nil {
			t.target(l)
		}
	}
}

// target says what holds up calls to one target: why none may begin, or what there is too little of.
func (t *telling) target(l *postgres.FactLimit) {
	if t.stopped(l, WhyTargetPaused, "No call to "+l.Key) || t.rests(l) || t.Phase != gantry.Owned {
		return
	}
	if l.Units > 0 && l.InUse >= l.Units && (l.Waiting > 0 || l.Held > 0) {
		c := api.Cause{Code: WhyUnits, Limit: l.Key}
		var who string
		c.Holders, who = t.holding(l, "unit")
		if l.Waiting > 0 {
			who += fmt.Sprintf("; processes want %d more", l.Waiting)
		}
		t.say(c, "%d of %d units of %s are in use, held by %s.", l.InUse, l.Units, l.Key, who)
	}
	if l.Next != nil {
		t.say(api.Cause{Code: WhyRate, Limit: l.Key, Until: l.Next}, "%s takes %.4g calls a second: no start is free before %s.", l.Key, l.Rate, t.at(*l.Next))
	}
}

// rests says until when a target is left alone, and tells whether it is.
func (t *telling) rests(l *postgres.FactLimit) bool {
	said := len(t.out)
	if at := l.NotBefore; at != nil {
		t.say(api.Cause{Code: WhyTargetRests, Limit: l.Key, Until: at}, "%s asked to be left alone (Retry-After): no call begins before %s.", l.Key, t.at(*at))
	}
	switch at := l.BreakerEnd; {
	case l.Breaker == "open" && at != nil && at.After(t.Now):
		t.say(api.Cause{Code: WhyBreaker, Limit: l.Key, Until: at}, "Calls to %s failed again and again: none begins before %s, then one tries it.", l.Key, t.at(*at))
	case l.Breaker == "open":
		t.say(api.Cause{Code: WhyProbe, Limit: l.Key}, "Calls to %s failed again and again: the next one tries it, before any other.", l.Key)
	case l.Breaker == "half_open" && at != nil:
		t.say(api.Cause{Code: WhyProbe, Limit: l.Key, Until: at}, "Calls to %s failed again and again: one tries it now, and is given up at %s.", l.Key, t.at(*at))
	}
	return len(t.out) > said
}

// calls says which calls have not ended.
func (t *telling) calls() {
	for _, x := range t.Calls {
		t.say(api.Cause{Code: WhyCalls, Limit: x.Target}, "%s to %s %s not ended, the first on record since %s.", plural(x.N, "call"), x.Target, verb(x.N, "has", "have"), t.at(x.Since))
	}
}

// processor gives the name of one of the stage's processors, and the key of its target.
func (t *telling) processor(i int16) (name, key string) {
	if t.p == nil || int(t.Stage) >= len(t.p.Stages) || int(i) >= len(t.p.Stages[t.Stage].Call) {
		return fmt.Sprintf("processor %d", i), ""
	}
	name = t.p.Stages[t.Stage].Call[i]
	x, err := t.p.Processor(name)
	if err != nil {
		return name, ""
	}
	return name, targetOf(x.Config).Key()
}

// partsLater says when parts are tried again, and why not at once.
func (t *telling) partsLater() {
	for _, x := range t.Parts {
		if x.Later == 0 || x.Due == nil {
			continue
		}
		name, key := t.processor(x.Processor)
		after := fmt.Sprintf("attempt %d%s of the first ended with %s", x.Tries-x.Asked, t.of(), x.Code)
		if x.Tries == x.Asked {
			after = fmt.Sprintf("the target asked to come back later (%s), which counts as no attempt", x.Code)
		}
		t.say(api.Cause{Code: WhyPartsLater, Limit: key, Until: x.Due}, "%s for %s %s tried again from %s on: %s.", plural(x.Later, "part"), name, verb(x.Later, "is", "are"), t.at(*x.Due), after)
	}
}

// answers says which answers come later.
func (t *telling) answers() {
	for _, x := range t.Parts {
		if x.Out == 0 {
			continue
		}
		name, key := t.processor(x.Processor)
		if l := t.limit(x.OutLimiter); l != nil {
			key = l.Key
		}
		c := api.Cause{Code: WhyAnswers, Limit: key, Until: x.OutUntil}
		text := fmt.Sprintf("It waits for the answer of %s to %s (%s)", plural(x.Out, "call"), key, name)
		if x.OutDue != nil {
			text += ", and asks again at " + t.at(*x.OutDue)
			c.Until = x.OutDue
		}
		if x.OutUntil != nil {
			text += "; the first deadline is " + t.at(*x.OutUntil)
		}
		t.say(c, "%s.", text)
	}
}

// parts counts those of the stage.
func (t *telling) parts() string {
	var out []string
	for _, x := range t.Parts {
		name, _ := t.processor(x.Processor)
		text := fmt.Sprintf("; %s has answered %d of %s", name, x.OK, plural(x.Planned+x.Out+x.OK+x.Skipped+x.Failed, "part"))
		for _, y := range []struct {
			n    int
			what string
		}{{x.Skipped, "skipped"}, {x.Failed, "failed"}, {x.Out, "out"}, {x.Planned, "planned"}} {
			if y.n > 0 {
				text += fmt.Sprintf(", %d %s", y.n, y.what)
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, "")
}
