package gantry

import (
	"context"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

// About says what a delivery is of, for the keys, metadata and tags of sinks. It follows from rows that were
// committed before, so it is the same at every try, and holds no names of people.
type About struct {
	Pipeline, Task string
	Created        time.Time                                 // the task
	Source         func(ctx context.Context) (string, error) // the name of the source that its original came from
	Leg, Delivery  int16
	Stage          string // of an output; empty of the manifest, as the next two
	Processor      string
	Call           string // the Idempotency-Key of the call that answered it; empty of what was put together
	Below          string // the path below the task, without leg and delivery
}

// Template is a text with variables in braces, {task}, for what a sink lays down. Its zero value is empty.
type Template struct {
	parts []templatePart
}

// templatePart is a piece of text, or a variable.
type templatePart struct{ text, variable string }

// variable is what templates may speak of. Nothing that comes out of an input is among them.
type variable struct {
	alphabet string // what its values are made of
	least    int    // characters of them
	most     int
	inKeys   bool // of all that a task lays down it is the same
}

const (
	lowerCase = "abcdefghijklmnopqrstuvwxyz"
	decimals  = "0123456789"
)

var variables = map[string]variable{
	"pipeline":  {lowerCase + decimals + "-", 1, 63, true},
	"task":      {lowerCase + "234567", 26, 26, true},
	"source":    {lowerCase + decimals + "-", 1, 63, true},
	"date":      {decimals + "-", 10, 10, true},
	"year":      {decimals, 4, 4, true},
	"month":     {decimals, 2, 2, true},
	"day":       {decimals, 2, 2, true},
	"leg":       {decimals, 1, 5, true},
	"delivery":  {decimals, 1, 5, true},
	"path":      {lowerCase + decimals + "-_./", 1, 200, true},
	"stage":     {lowerCase + decimals + "-", 0, 63, false},
	"processor": {lowerCase + decimals + "-", 0, 63, false},
	"call":      {lowerCase + decimals + "-/", 0, 200, false},
	"sha256":    {decimals + "abcdef", 64, 64, false},
}

// order is that of listings.
var variableOrder = []string{"pipeline", "task", "source", "date", "year", "month", "day", "leg", "delivery", "path", "stage", "processor", "call", "sha256"}

// ParseTemplate reads a template. A brace that opens or closes no variable, and a variable that there is not, are
// Illegal with code bad_template. The text of the error quotes the template, which stands in a pipeline file.
func ParseTemplate(text string) (Template, error) {
	var t Template
	for rest := text; rest != ""; {
		head, tail, found := strings.Cut(rest, "{")
		if strings.Contains(head, "}") {
			return Template{}, Errorf(Illegal, CodeBadTemplate, "a brace closes nothing; a variable stands as {task}")
		}
		if head != "" {
			t.parts = append(t.parts, templatePart{text: head})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(tail, "}")
		if _, known := variables[name]; !closed || !known {
			return Template{}, Errorf(Illegal, CodeBadTemplate, "{%s is no variable; there is {%s}", short(name, closed), strings.Join(variableOrder, "}, {"))
		}
		t.parts = append(t.parts, templatePart{variable: name})
		rest = after
	}
	return t, nil
}

func short(name string, closed bool) string {
	if !closed || len(name) > 40 {
		return strings.ToValidUTF8(name[:min(len(name), 40)], "?")
	}
	return name + "}"
}

// ParseKey reads the template of the keys of a sink. What it gives is a place for each task of its own, at every
// leg and delivery, below which what the task delivers lies as its manifest says: it has {task} once, ends in /{path}, and
// nothing in it differs between the outputs of one task. It has no empty folder, none named . or .., and its
// variables are apart from one another.
func ParseKey(text string) (Template, error) {
	t, err := ParseTemplate(text)
	if err != nil {
		return t, err
	}
	bad := func(format string, args ...any) (Template, error) {
		return Template{}, Errorf(Illegal, CodeBadTemplate, format, args...)
	}
	count := map[string]int{}
	for i, p := range t.parts {
		if p.variable == "" {
			if at := strings.IndexFunc(p.text, func(r rune) bool { return !strings.ContainsRune(keyText, r) }); at >= 0 {
				return bad("only letters, digits and / _ . = @ + - stand in it beside variables")
			}
			continue
		}
		if count[p.variable]++; count[p.variable] > 1 {
			return bad("{%s} stands in it twice", p.variable)
		}
		if !variables[p.variable].inKeys {
			return bad("{%s} differs between the outputs of a task, so that the manifest could not say where they are; it is part of {path}", p.variable)
		}
		if i+1 < len(t.parts) && (t.parts[i+1].text == "" || !strings.ContainsRune("/_.=-", rune(t.parts[i+1].text[0]))) {
			return bad("after {%s} one of / _ . = - has to stand, to keep apart what follows", p.variable)
		}
	}
	switch {
	case count["task"] == 0:
		return bad("{task} is missing: the results of two tasks would lie in one place")
	case text != "{path}" && !strings.HasSuffix(text, "/{path}"):
		return bad("it has to end in /{path}, which keeps the outputs of a task apart")
	case !fs.ValidPath(text):
		return bad("it is no path: a folder has no name, or . or ..")
	}
	return t, nil
}

const keyText = lowerCase + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + decimals + "/_.=@+-"

// DefaultKey is the template that a sink's keys follow if nothing else is said.
const DefaultKey = "{task}/{path}"

// Empty tells whether there is nothing in it.
func (t Template) Empty() bool { return len(t.parts) == 0 }

// Has tells whether a variable stands in it.
func (t Template) Has(name string) bool {
	return slices.ContainsFunc(t.parts, func(p templatePart) bool { return p.variable == name })
}

// Longest is how many bytes its value has at most.
func (t Template) Longest() (n int) {
	for _, p := range t.parts {
		n += len(p.text) + variables[p.variable].most
	}
	return n
}

// Fill gives the template's value for a delivery. The error is that of finding the source.
func (t Template) Fill(ctx context.Context, d Delivery) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		value, err := t.value(ctx, p.variable, d)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

func (t Template) value(ctx context.Context, name string, d Delivery) (string, error) {
	a, at := d.About, d.About.Created.UTC()
	switch name {
	case "pipeline":
		return a.Pipeline, nil
	case "task":
		return a.Task, nil
	case "source":
		return a.Source(ctx)
	case "date":
		return at.Format(time.DateOnly), nil
	case "year":
		return at.Format("2006"), nil
	case "month":
		return at.Format("01"), nil
	case "day":
		return at.Format("02"), nil
	case "leg":
		return strconv.Itoa(int(a.Leg)), nil
	case "delivery":
		return strconv.Itoa(int(a.Delivery)), nil
	case "path":
		return a.path(!t.Has("leg"), !t.Has("delivery")), nil
	case "stage":
		return a.Stage, nil
	case "processor":
		return a.Processor, nil
	case "call":
		return a.Call, nil
	}
	return d.SHA.String(), nil
}

// path is what lies below the task. Leg and delivery lead it where nothing else tells of them, after the first.
func (a About) path(leg, delivery bool) string {
	p := a.Below
	if delivery && a.Delivery > 0 {
		p = "r" + strconv.Itoa(int(a.Delivery)) + "/" + p
	}
	if leg && a.Leg > 0 {
		p = "leg" + strconv.Itoa(int(a.Leg)) + "/" + p
	}
	return p
}

// Path is where a delivery lies by default, below a sink's prefix.
func (a About) Path() string { return a.Task + "/" + a.path(true, true) }

// MayBegin tells whether a value of the template may begin with a text.
func (t Template) MayBegin(with string) bool { return mayBegin(t.parts, with) }

func mayBegin(parts []templatePart, with string) bool {
	if with == "" {
		return true
	}
	if len(parts) == 0 {
		return false
	}
	p := parts[0]
	if p.variable == "" {
		return strings.HasPrefix(p.text, with) || strings.HasPrefix(with, p.text) && mayBegin(parts[1:], with[len(p.text):])
	}
	v := variables[p.variable]
	for n := 0; ; n++ {
		if n >= v.least && n <= v.most && mayBegin(parts[1:], with[n:]) {
			return true
		}
		if n == len(with) {
			return n <= v.most
		}
		if !strings.ContainsRune(v.alphabet, rune(with[n])) {
			return false
		}
	}
}
