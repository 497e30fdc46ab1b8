package pipeline

import (
	"fmt"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Diagram draws a pipeline as a mermaid flowchart: sources, what is done before the first stage, the
// stages with their processors side by side, sinks. Dotted arrows are what a cumulative stage reads of
// earlier ones; notes hang on dashed lines and hold limits. It shows names and settings of the file,
// never addresses or credentials.
func Diagram(p *gantry.Pipeline) string {
	d := &diagram{}
	d.line("flowchart LR")
	d.node("take", `{{"%s"}}`, taken(p))
	for i, s := range p.Sources {
		id := fmt.Sprintf("source%d", i)
		d.node(id, `[/"%s (%s)"/]`, s.Name, s.Kind)
		d.line("  %s --> take", id)
	}
	if p.InProgress > 0 {
		d.note("take", fmt.Sprintf("%d tasks at once", p.InProgress))
	}
	for i, s := range p.Stages {
		d.stage(p, i, s)
	}
	for i, s := range p.Sinks {
		id := fmt.Sprintf("sink%d", i)
		d.node(id, `[\"%s (%s)"\]`, s.Name, s.Kind)
		d.line("  %s --> %s", d.left, id)
	}
	d.line("  classDef note fill:none,stroke-dasharray:3 3")
	return d.b.String()
}

type diagram struct {
	b     strings.Builder
	left  string // the node that the next stage reads from
	notes int
}

func (d *diagram) line(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

// node adds a node; the texts inside are escaped.
func (d *diagram) node(id, shape string, args ...any) {
	for i, a := range args {
		args[i] = escape(fmt.Sprint(a))
	}
	d.line("  "+id+shape, args...)
	if id == "take" {
		d.left = id
	}
}

func (d *diagram) note(id, text string) {
	d.line(`  note%d["%s"]:::note -.- %s`, d.notes, escape(text), id)
	d.notes++
}

// taken says what happens to an object before its first stage.
func taken(p *gantry.Pipeline) string {
	words := []string{"unpack " + strings.Join(p.Extract.Archives, ", ")}
	if len(p.Extract.Archives) == 0 {
		words = []string{"take as it is"}
	}
	if p.When != nil {
		words = append(words, "when "+p.When.String())
	}
	return strings.Join(words, "; ")
}

// stage draws one stage as a box of its processors, between a node that gathers what it reads and
// one that gathers what it leaves.
func (d *diagram) stage(p *gantry.Pipeline, i int, s gantry.Stage) {
	box, out := fmt.Sprintf("stage%d", i), fmt.Sprintf("left%d", i)
	d.line(`  subgraph %s["%s"]`, box, escape(stageTitle(s)))
	var calls []string
	for j, name := range s.Call {
		id := fmt.Sprintf("call%d_%d", i, j)
		x, _ := p.Processor(name)
		d.node(id, `["%s (%s)"]`, name, x.Kind)
		calls = append(calls, id)
	}
	d.line("  end")
	d.line("  %s(( ))", out)
	for j, id := range calls {
		label := ""
		if s.When != nil {
			label = `|"` + escape("when "+s.When.String()) + `"|`
		}
		d.line("  %s -->%s %s", d.left, label, id)
		label = ""
		if s.KeepIf != nil {
			label = `|"` + escape("keep if "+s.KeepIf.String()) + `"|`
		}
		d.line("  %s -->%s %s", id, label, out)
		if s.Mode == gantry.Cumulative {
			d.earlier(i, id)
		}
		x, _ := p.Processor(s.Call[j])
		d.note(id, limits(x))
	}
	d.left = out
}

// earlier draws what a cumulative stage reads beside what the previous one left.
func (d *diagram) earlier(stage int, id string) {
	if stage > 0 {
		d.line("  take -.-> %s", id)
	}
	for j := range stage - 1 {
		d.line("  left%d -.-> %s", j, id)
	}
}

func stageTitle(s gantry.Stage) string {
	title := fmt.Sprintf("%s: %s, each %s", s.Name, s.Mode, s.Each)
	if s.Max > 0 {
		title += fmt.Sprintf(" of up to %d", s.Max)
	}
	if s.Mode == gantry.Fanout && s.Need > 0 {
		title += fmt.Sprintf(", need %d of %d", s.Need, len(s.Call))
	}
	if s.Pass != "" {
		title += ", pass " + string(s.Pass)
	}
	return title
}

func limits(x gantry.Processing) string {
	text := fmt.Sprintf("%d at once", x.Limits.Concurrency)
	if x.Limits.Rate > 0 {
		text += fmt.Sprintf(", %.4g/s", x.Limits.Rate)
	}
	return text + ", " + formatDuration(x.Timeout) + " each"
}

// escape writes a text so that mermaid shows it and reads nothing into it.
func escape(s string) string {
	return strings.NewReplacer("&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "#", "#35;", "`", "#96;", "\n", " ").Replace(s)
}
