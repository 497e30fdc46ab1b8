package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type planCmd struct {
	File   string   `short:"f" required:"" help:"Pipeline file." type:"existingfile" placeholder:"PIPELINE.yaml"`
	Media  []string `help:"Processors that are taken to answer with a PNG; the others are taken to answer with JSON." placeholder:"NAME"`
	All    bool     `help:"List every call, and every file and frame; without it the first few of each."`
	JSON   bool     `name:"json" help:"One JSON object instead of text; it lists everything."`
	Inputs []string `arg:"" name:"input" help:"Files. A folder stands for the files in it."`
}

// Run is called by the parser.
func (p *planCmd) Run(ctx context.Context, c console) error {
	x, err := pipeline.Load(p.File, all.Drivers(), os.LookupEnv)
	if err != nil {
		return err
	}
	inputs, err := expand(p.Inputs)
	if err != nil {
		return usageError{err}
	}
	answers := map[string]string{}
	for _, name := range p.Media {
		if !slices.ContainsFunc(x.Processors, func(y gantry.Processing) bool { return y.Name == name }) {
			return usageError{fmt.Errorf("--media: the pipeline has no processor %q", name)}
		}
		answers[name] = gantry.MediaPNG
	}
	v, err := app.Preview(ctx, app.PreviewOptions{Pipeline: x, Drivers: all.Drivers(), Inputs: inputs, Answers: answers})
	if err != nil {
		return err
	}
	if p.JSON {
		err = printJSON(c.out, v)
	} else {
		t := planText{w: c.out, plan: v, pipeline: x, few: 3}
		if p.All {
			t.few = 1 << 30
		}
		err = t.print()
	}
	if err == nil && slices.ContainsFunc(v.Inputs, refused) {
		err = quietError(exitFailed)
	}
	return err
}

// refused tells whether an input would fail, or a call of it could not be made.
func refused(x app.PreviewedInput) bool {
	for _, t := range x.Tasks {
		for _, s := range t.Stages {
			if slices.ContainsFunc(s.Calls, func(c engine.PreviewCall) bool { return c.First.Code != "" }) {
				return true
			}
		}
	}
	return x.Code != ""
}

// planText writes a plan for people.
type planText struct {
	w        io.Writer
	plan     *app.Previewed
	pipeline *gantry.Pipeline
	few      int // how many of a list are shown
	err      error
}

func (t *planText) line(format string, args ...any) {
	if _, err := fmt.Fprintf(t.w, format+"\n", args...); t.err == nil {
		t.err = err
	}
}

func (t *planText) print() error {
	t.line("pipeline %s  version %s", t.plan.Pipeline, t.plan.Version[:12])
	t.line("assumed: every call is answered, by one output each: %s", t.assumed())
	for _, x := range t.plan.Inputs {
		t.line("")
		t.input(x)
	}
	t.line("")
	for _, s := range t.plan.Sinks {
		rejoin := ""
		if s.Rejoin {
			rejoin = ", put together as the input was"
		}
		t.line("delivers to %s  %s%s", s.Name, s.Target, rejoin)
	}
	t.line("nothing was called")
	return t.err
}

// assumed says which processors are taken to answer what.
func (t *planText) assumed() string {
	by := map[string][]string{}
	for _, p := range t.plan.Processors {
		by[p.Answer] = append(by[p.Answer], p.Name)
	}
	var out []string
	for _, kind := range []string{gantry.MediaJSON, gantry.MediaPNG} {
		if len(by[kind]) > 0 {
			out = append(out, kind+" of "+strings.Join(by[kind], ", "))
		}
	}
	return strings.Join(out, "; ")
}

func (t *planText) input(x app.PreviewedInput) {
	t.line("input    %s  %s  %s", filepath.Base(x.Input), cmp.Or(x.Media, "no kind that is taken"), size(x.Size))
	n, told := 0, 0
	for _, item := range x.Items {
		if !item.Refuse {
			n++
		}
		if item.Reason == "" {
			continue
		}
		if told++; told <= t.few {
			t.line("  %-8s %s  %s", map[bool]string{true: "refused", false: "remark"}[item.Refuse], item.Path, item.Reason)
		}
	}
	t.more(told, "  … and %d more refused or remarked on")
	if x.Code == "" || len(x.Tasks) > 0 {
		t.line("  %s to be looked at by the stages", plural(n, "file or frame", "files and frames"))
	}
	for i, task := range x.Tasks {
		if len(x.Tasks) > 1 {
			t.line("  task %d of %d: %s", i+1, len(x.Tasks), plural(task.Origins, "file or frame", "files and frames"))
		}
		if task.Filtered {
			t.line("  nothing is called: the pipeline's when does not hold")
		}
		if task.Shards > 0 {
			t.line("  the first stages run as %d tasks", task.Shards)
		}
		for j, s := range task.Stages {
			t.stage(j, s)
		}
	}
	if x.Code != "" {
		t.line("  fails    %s: %s", x.Code, x.Reason)
	}
}

// stage writes a stage with its calls.
func (t *planText) stage(i int, s engine.PreviewStage) {
	st := t.pipeline.Stages[i]
	each := string(st.Each)
	if st.Max > 0 {
		each += fmt.Sprintf(" of at most %d", st.Max)
	}
	t.line("stage %d  %s  %s, each %s, %s", i+1, s.Name, st.Mode, each, passes(st))
	for _, c := range []struct {
		name string
		gantry.Condition
	}{{"when", st.When}, {"keep_if", st.KeepIf}} {
		switch {
		case slices.Contains(s.Depends, c.name):
			t.line("  %s  %s  depends on answers; taken to hold", c.name, c.Condition)
		case c.Condition != nil:
			t.line("  %s  %s", c.name, c.Condition)
		}
	}
	for _, c := range s.Calls {
		t.call(c)
	}
}

// passes says what a stage leaves to the next.
func passes(st gantry.Stage) string {
	switch st.Pass {
	case gantry.PassAuto:
		return "media replace what was sent, data go along"
	default:
		return "passes on " + string(st.Pass)
	}
}

// call writes a processor with its limits, its first request, and what its calls are about.
func (t *planText) call(c engine.PreviewCall) {
	i := slices.IndexFunc(t.plan.Processors, func(p app.PreviewedTarget) bool { return p.Name == c.Processor })
	p := t.plan.Processors[i]
	calls, skipped := 0, ""
	for _, part := range c.Parts {
		if part.Code == "" {
			calls++
		}
	}
	if c.Skipped > 0 {
		skipped = fmt.Sprintf(", %d skipped", c.Skipped)
	}
	limits := fmt.Sprintf("%d at once", p.Concurrency)
	if p.Rate > 0 {
		limits += fmt.Sprintf(", %g/s, burst %d", p.Rate, p.Burst)
	}
	t.line("  %s  %s%s  %s  (%s; %s each)", c.Processor, plural(calls, "call", "calls"), skipped, p.Target, limits, p.Timeout)
	switch f := c.First; {
	case f.Code != "":
		t.line("    cannot be sent  %s: %s", f.Code, f.Reason)
	case f.Method != "":
		signed := ""
		if p.Auth != "" {
			signed = ", signed with " + p.Auth
		}
		t.line("    first: %s %s  %s, %s%s", f.Method, f.URL, f.Media, size(f.Size), signed)
	}
	t.parts(c.Parts)
}

// parts lists the first calls, and the first of those that cannot be made.
func (t *planText) parts(list []engine.PreviewPart) {
	good, bad := 0, 0
	for _, part := range list {
		switch {
		case part.Code != "":
			if bad++; bad <= t.few {
				t.line("    %s  cannot be read  %s", t.items(part.Items), part.Code)
			}
		default:
			if good++; good <= t.few {
				t.line("    %s", t.items(part.Items))
			}
		}
	}
	t.more(good, "    … and %d more")
	t.more(bad, "    … and %d more that cannot be read")
}

// more says how many of a list were left out.
func (t *planText) more(n int, format string) {
	if n > t.few {
		t.line(format, n-t.few)
	}
}

// items names what one call is about.
func (t *planText) items(list []engine.PreviewItem) string {
	var out []string
	for n, x := range list {
		if n == t.few {
			out = append(out, fmt.Sprintf("and %d more", len(list)-n))
			break
		}
		s := x.Path + " " + x.Media
		switch {
		case x.From != "":
			s += ", answer of " + x.From
		case x.Frame > 0:
			s += fmt.Sprintf(", frame %d", x.Frame)
		}
		if x.Size >= 0 {
			s += ", " + size(x.Size)
		}
		out = append(out, s)
	}
	return strings.Join(out, " + ")
}

// size writes a number of bytes; -1 is one that is not known before.
func size(n int64) string {
	switch {
	case n < 0:
		return "size known when sent"
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
