package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// telling puts facts into words.
type telling struct {
	postgres.Facts
	p   *gantry.Pipeline // nil if it cannot be read
	out []api.Cause
}

// causes says what a task waits for, the most important first. p may be nil.
func causes(f postgres.Facts, p *gantry.Pipeline) []api.Cause {
	t := &telling{Facts: f, p: p}
	if f.State.Final() {
		t.ended()
		t.incomplete()
		return t.out
	}
	t.asked()
	if f.Phase != gantry.Paused {
		t.nobody()
	}
	switch f.Phase {
	case gantry.Ready:
		t.ready()
	case gantry.Owned:
		t.owned()
	case gantry.Delayed:
		t.delayed()
	case gantry.Waiting:
		t.children()
	case gantry.Paused:
		t.paused()
	}
	t.stateTime()
	if f.Parent != "" {
		t.say(api.Cause{Code: WhyChildOf}, "It is a part of task %s.", f.Parent)
	}
	t.incomplete()
	return t.out
}

func (t *telling) say(c api.Cause, format string, args ...any) {
	c.Text = fmt.Sprintf(format, args...)
	t.out = append(t.out, c)
}

// incomplete tells of a collection that lacked something when it was closed.
func (t *telling) incomplete() {
	if c := t.Collection; c != nil && c.Held < c.Expected {
		t.say(api.Cause{Code: WhyIncomplete}, "It was made of %d of %d images or files that were expected: %s closed its collection, %d.", c.Held, c.Expected, c.Why, c.ID)
	}
}

// at gives a moment, and how far it is away.
func (t *telling) at(x time.Time) string {
	text := x.UTC().Format(time.RFC3339)
	switch d := x.Sub(t.Now).Round(time.Second); {
	case d > 0:
		return text + " (in " + d.String() + ")"
	case d < 0:
		return text + " (" + (-d).String() + " ago)"
	}
	return text + " (now)"
}

// sentence begins a text with a capital letter and ends it with a stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.TrimRight(capital(s), ".") + "."
}

// reason is why a task ended, without what is said of every input.
func reason(s string) string { return sentence(strings.TrimSuffix(s, "; the input is kept")) }

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// verb is that of one thing, or of several.
func verb(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// ended says how a task ended, and what an operator can do.
func (t *telling) ended() {
	at := t.at(*t.Ended)
	t.Stage = t.Last.Stage
	can := "gantry task retry puts it back into that state, gantry task redrive calls parts again, gantry task move gives it to another pipeline"
	switch {
	case t.Run:
		can = "it belonged to gantry run, which can be run again"
	case t.Parent != "":
		can = "retry and redrive go by the task that it is a part of, " + t.Parent
	}
	switch {
	case t.State == gantry.Done && t.Last.Code == string(gantry.CodeFiltered):
		t.say(api.Cause{Code: WhyDone}, "It was done at %s without a call, since the pipeline's when does not hold for it.", at)
	case t.State == gantry.Done:
		t.say(api.Cause{Code: WhyDone}, "It was done at %s.", at)
	case t.State == gantry.Cancelled:
		t.say(api.Cause{Code: WhyCancelled}, "It was cancelled at %s in %s, with %s: %s The input is kept.", at, t.place(t.Last.From), t.Error.Code, reason(t.Error.Message))
	default:
		t.say(api.Cause{Code: WhyFailed}, "It failed at %s in %s, with %s (%s): %s The input is kept: %s.", at, t.place(t.Last.From), t.Error.Code, t.Error.Kind,
			reason(t.Error.Message), can)
	}
}

// place is a state, with the stage where there is one.
func (t *telling) place(s gantry.State) string {
	if s != gantry.Inferring || t.p == nil || int(t.Stage) >= len(t.p.Stages) {
		return s.String()
	}
	if len(t.p.Stages) == 1 {
		return fmt.Sprintf("%s, stage %s", s, t.p.Stages[t.Stage].Name)
	}
	return fmt.Sprintf("%s, stage %s (%d of %d)", s, t.p.Stages[t.Stage].Name, t.Stage+1, len(t.p.Stages))
}

// asked says what operators want that is not done yet.
func (t *telling) asked() {
	for _, a := range t.Asked {
		who := "the next process that looks does it"
		if _, alive := t.process(t.Owner); alive {
			who = fmt.Sprintf("process %d does it at its next heartbeat", t.Owner)
		}
		t.say(api.Cause{Code: WhyAsked}, "%s asked for its %s at %s: %s.", a.By, a.Verb, t.at(a.At), who)
	}
}

func (t *telling) paused() {
	by := "It is paused"
	if p := t.Pause; p != nil {
		by = fmt.Sprintf("It was paused by %s at %s", p.By, t.at(p.At))
		if p.Reason != "" {
			by += ", " + p.Reason
		}
	}
	t.say(api.Cause{Code: WhyPaused}, "%s: gantry task resume lets it go on.", strings.TrimRight(by, "."))
}

// process finds one that is on the books.
func (t *telling) process(id int64) (postgres.Process, bool) {
	i := slices.IndexFunc(t.Processes, func(x postgres.Process) bool { return x.ID == id })
	if i < 0 {
		return postgres.Process{ID: id}, false
	}
	return t.Processes[i], t.Processes[i].ExpiresAt.After(t.Now)
}

// workers are the live processes that may claim the task.
func (t *telling) workers() (out []postgres.Process) {
	for _, x := range t.Processes {
		if x.ExpiresAt.After(t.Now) && (t.Lane.Private == 0 && !x.Private || x.ID == t.Lane.Private) {
			out = append(out, x)
		}
	}
	return out
}

// nobody says that there is no process which could do anything for the task.
func (t *telling) nobody() {
	switch {
	case len(t.workers()) > 0:
	case t.Lane.Private != 0:
		t.say(api.Cause{Code: WhyRunnerGone}, "It belongs to gantry run, whose process %d is gone, and nobody else may take it: the next live process ends it as cancelled.", t.Lane.Private)
	default:
		t.say(api.Cause{Code: WhyNoProcess}, "No process is running: start gantry serve, or gantry worker.")
	}
}

// ready says why nobody has claimed the task yet.
func (t *telling) ready() {
	held := len(t.out)
	if l := t.limit(t.Lane.Limiter); l != nil {
		t.pipelineLimit(l)
	}
	if w, err := gantry.ParseWindows(t.OffPeak); err == nil && t.Rank >= gantry.PriorityOffPeak && t.Lane.Private == 0 && !w.Open(t.Now) {
		at := t.Now.Add(w.Until(t.Now))
		t.say(api.Cause{Code: WhyOffPeak, Until: &at}, "It is off-peak: a window of its pipeline opens at %s.", t.at(at))
	}
	t.busy()
	if t.Deaths >= gantry.CrashesToBeAlone {
		t.say(api.Cause{Code: WhyAlone}, "%d processes died while they worked on it: whoever takes it next lets what runs there end, and works on it alone.", t.Deaths)
	}
	if n := t.Ahead.All; n > 0 {
		text := plural(n, "task")
		if n >= postgres.MostAhead {
			text = fmt.Sprintf("at least %d tasks", n)
		}
		t.say(api.Cause{Code: WhyAhead}, "%s of %s/%s %s before it: %d more urgent, %d older of its priority, which is %d.", capital(text),
			t.Lane.Pipeline, t.Lane.Source, verb(n, "goes", "go"), t.Ahead.Urgent, n-t.Ahead.Urgent, t.Rank)
	}
	if len(t.out) == held && len(t.workers()) > 0 {
		t.say(api.Cause{Code: WhyNext}, "Nothing holds it: it is next, and a process takes it within half a second.")
	}
}

// busy says that no process takes another task.
func (t *telling) busy() {
	live := t.workers()
	c := api.Cause{Code: WhyBusy}
	var who []string
	for _, x := range live {
		switch {
		case x.Alone:
			who = append(who, fmt.Sprintf("process %d (%s) works on a task alone", x.ID, x.Host))
		case x.Tasks >= scheduler.Places(x.Places, t.Rank <= gantry.PriorityUrgent):
			who = append(who, fmt.Sprintf("process %d (%s) has %d", x.ID, x.Host, x.Tasks))
		default:
			return
		}
		c.Holders = append(c.Holders, api.Holder{Process: x.ID, Host: x.Host})
	}
	if len(live) > 0 {
		t.say(c, "Every process has as many tasks as it takes: %s.", few(who))
	}
}

// few joins the first of some texts.
func few(list []string) string {
	if n := len(list) - 4; n > 0 {
		return strings.Join(list[:4], ", ") + fmt.Sprintf(" and %d more", n)
	}
	if n := len(list); n > 1 {
		return strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	}
	return strings.Join(list, "")
}

// owned says what the process that holds the task does, and first what holds that up.
func (t *telling) owned() {
	x, alive := t.process(t.Owner)
	who := fmt.Sprintf("process %d", x.ID)
	if x.Host != "" {
		who += fmt.Sprintf(" (%s, pid %d, since %s)", x.Host, x.PID, x.StartedAt.UTC().Format(time.RFC3339))
	}
	c := api.Cause{Code: WhyWorking, Holders: []api.Holder{{Process: x.ID, Host: x.Host}}}
	switch {
	case !alive:
		c.Code = WhyOwnerGone
		t.say(c, "%s held it, and was not heard of before its lease ran out: the next live process takes the task away from it.", capital(who))
	case t.Aside:
		c.Code = WhyAlone
		t.say(c, "%d processes died while they worked on it: %s has set it aside, and works on it alone once the other tasks there have ended (%d).", t.Deaths, who, x.Tasks-1)
	default:
		t.stateLimit()
		t.targets()
		t.calls()
		t.partsLater()
		t.answers()
		t.say(c, "%s works on it: %s%s.", capital(who), t.place(t.State), t.parts())
	}
}

// delayed says when there is something to do again, and why not before.
func (t *telling) delayed() {
	held := len(t.out)
	due := ""
	if t.Due != nil {
		due = t.at(*t.Due)
	}
	t.answers()
	t.partsLater()
	t.confirms()
	switch {
	case t.Last.Change == int16(gantry.Retry):
		t.say(api.Cause{Code: WhyRetry, Until: t.Due}, "Attempt %d%s of %s ended with %s: %s It is tried again at %s.", t.Tries, t.of(), t.place(t.State), t.Last.Code,
			sentence(t.Last.Detail), due)
	case len(t.out) == held:
		t.say(api.Cause{Code: WhyParked, Until: t.Due}, "There is nothing to do for it before %s.", due)
	}
	t.targets()
}

// of is the number of attempts that there are, if it is known.
func (t *telling) of() string {
	if t.p == nil {
		return ""
	}
	return fmt.Sprintf(" of %d", t.p.Retry.Attempts)
}

// children says which tasks it waits for.
func (t *telling) children() {
	var list []string
	for _, x := range t.Children.First {
		what := x.Phase.String()
		switch {
		case x.Phase == gantry.Owned:
			what = fmt.Sprintf("at process %d", x.Owner)
		case x.Due != nil && x.Phase == gantry.Delayed:
			what = "delayed until " + t.at(*x.Due)
		}
		list = append(list, fmt.Sprintf("%s (%s, %s)", x.ID, x.State, what))
	}
	more := ""
	if n := t.Children.Open - len(list); n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	t.say(api.Cause{Code: WhyChildren}, "It waits for %d of its %d children: %s%s.", t.Children.Open, t.Children.All, strings.Join(list, ", "), more)
}

// stateTime says when the time of the task's state is up; that of a paused one does not run.
func (t *telling) stateTime() {
	switch {
	case t.Until == nil || t.Phase == gantry.Paused:
	case t.Until.After(t.Now):
		t.say(api.Cause{Code: WhyStateTime, Until: t.Until}, "Its time for %s is up at %s.", t.State, t.at(*t.Until))
	default:
		t.say(api.Cause{Code: WhyStateTimeOver, Until: t.Until}, "Its time for %s was up at %s: it fails as soon as a process looks at it.", t.State, t.at(*t.Until))
	}
}

// confirms says which sinks are to say whether they keep what they got.
func (t *telling) confirms() {
	for _, c := range t.Confirms {
		name := fmt.Sprintf("its sink %d", c.Sink+1)
		if t.p != nil && int(c.Sink) < len(t.p.Sinks) {
			name = "sink " + t.p.Sinks[c.Sink].Name
		}
		t.say(api.Cause{Code: WhyConfirm, Until: t.Due}, "It waits for %s to say whether it keeps the %s that it got: it was asked at %s.", name, plural(int(c.Count), "file"), t.at(c.At))
	}
}
