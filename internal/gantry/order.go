package gantry

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Order says which of a pipeline's tasks go first. It is no part of a version: what the file says now holds for tasks
// of every version.
type Order struct {
	Ranking     Ranking // what a task's priority is once its tags are read; nil: as it was
	FinishFirst bool    // a task that is inferring or later is one step more urgent than one that is not
	OffPeak     Windows // when tasks of PriorityOffPeak and less urgent ones are begun
}

// Begun is the priority of an off-peak task once it was begun: it goes on outside of its windows too.
const Begun = PriorityOffPeak - 1

// LeastUrgent is the last priority.
const LeastUrgent int16 = 9

// Ranking is an expression of a pipeline file that gives a priority, compiled and checked. Of takes the variables of
// Pipeline.When; ok is false if the expression gives nothing, since what it speaks of is missing. An error is Illegal
// with code bad_expression and says nothing of their values.
type Ranking interface {
	Of(vars map[string]any) (priority int16, ok bool, err error)
	String() string // as it stands in the file
}

// Window is a time of the week, by the wall clock of a place.
type Window struct {
	days     [7]bool // on which it begins; Sunday is 0
	from, to int     // minutes of the day; to at or before from is on the next day
	zone     *time.Location
}

// Windows are times of the week taken together; none is all the time.
type Windows []Window

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads "22:00-06:00 Europe/Berlin" or, with the days on which the window begins,
// "mon-fri,sun 22:00-06:00 Europe/Berlin". The time zone is an IANA name, or UTC; 24:00 is the end of a day. A window
// that ends where it begins is a whole day. The error is for people and quotes nothing.
func ParseWindow(text string) (w Window, err error) {
	f := strings.Fields(text)
	if len(f) == 2 {
		f = slices.Insert(f, 0, "sun-sat")
	}
	if len(f) != 3 {
		return w, fmt.Errorf("a window is days, from-to and a time zone: mon-fri 22:00-06:00 Europe/Berlin")
	}
	for days := range strings.SplitSeq(f[0], ",") {
		if err := w.addDays(days); err != nil {
			return w, err
		}
	}
	from, to, ok := strings.Cut(f[1], "-")
	var okFrom, okTo bool
	w.from, okFrom = parseMinute(from)
	w.to, okTo = parseMinute(to)
	if !ok || !okFrom || !okTo || w.from == 24*60 {
		return w, fmt.Errorf("its hours are no from-to such as 22:00-06:00")
	}
	if w.zone, err = time.LoadLocation(f[2]); err != nil || f[2] == "Local" || len(f[2]) > 60 {
		return w, fmt.Errorf("its time zone is no IANA name such as Europe/Berlin or UTC")
	}
	return w, nil
}

// addDays adds a day or a range of days.
func (w *Window) addDays(text string) error {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
	if from < 0 || to < 0 {
		return fmt.Errorf("its days are not of %s, or ranges such as mon-fri", strings.Join(dayNames, ", "))
	}
	for d := from; ; d = (d + 1) % 7 {
		w.days[d] = true
		if d == to {
			return nil
		}
	}
}

func parseMinute(text string) (int, bool) {
	if len(text) != 5 || text[2] != ':' || strings.Trim(text[:2]+text[3:], "0123456789") != "" {
		return 0, false
	}
	h, m := int(text[0]-'0')*10+int(text[1]-'0'), int(text[3]-'0')*10+int(text[4]-'0')
	return h*60 + m, h < 24 && m < 60 || h == 24 && m == 0
}

// String gives the window as ParseWindow reads it.
func (w Window) String() string {
	var days []string
	for d, name := range dayNames {
		if w.days[d] {
			days = append(days, name)
		}
	}
	return fmt.Sprintf("%s %02d:%02d-%02d:%02d %s", strings.Join(days, ","), w.from/60, w.from%60, w.to/60, w.to%60, w.zone)
}

// Open tells whether a moment is within the window. It goes by the wall clock: an hour that a change of clocks
// skips is not there, one that it repeats counts twice.
func (w Window) Open(t time.Time) bool {
	t = t.In(w.zone)
	m, day := t.Hour()*60+t.Minute(), t.Weekday()
	if w.from < w.to {
		return w.days[day] && m >= w.from && m < w.to
	}
	return w.days[day] && m >= w.from || w.days[(day+6)%7] && m < w.to
}

// ParseWindows reads what String gives.
func ParseWindows(text string) (out Windows, err error) {
	if text == "" {
		return nil, nil
	}
	for one := range strings.SplitSeq(text, ";") {
		w, err := ParseWindow(one)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// String gives the windows one behind the other.
func (w Windows) String() string {
	var out []string
	for _, x := range w {
		out = append(out, x.String())
	}
	return strings.Join(out, ";")
}

// Open tells whether a moment is within one of the windows, or there are none.
func (w Windows) Open(t time.Time) bool {
	return len(w) == 0 || slices.ContainsFunc(w, func(x Window) bool { return x.Open(t) })
}

// Until is how long it is until one of the windows is open; 0 if one is.
func (w Windows) Until(t time.Time) time.Duration {
	if w.Open(t) {
		return 0
	}
	at := t.Truncate(time.Minute)
	for range 8 * 24 * 60 {
		if at = at.Add(time.Minute); w.Open(at) {
			return at.Sub(t)
		}
	}
	return 8 * 24 * time.Hour // a window that begins in an hour that a change of clocks skipped
}
