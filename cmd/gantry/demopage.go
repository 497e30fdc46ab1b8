package main

import (
	"archive/zip"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// thumbSide is the longest side of an input's picture on the page, in pixels.
const thumbSide = 320

// firstPictures are shown at once, the others of a task on demand.
const firstPictures = 3

// demoPage is what the page at the end of the demonstration shows. Links are relative to it.
type demoPage struct {
	Tasks, Done, Items, Files, Calls int
	Sent, Received                   int64
	Median                           float64 // of the calls, milliseconds
	Took                             time.Duration
	Acts                             []pageAct
	Left                             []string // what was left out, and why
}

type pageAct struct {
	Name, Mode, Text string
	Stages           []pageStage
	Took             time.Duration
	Tasks            []pageTask
	Before, After    string // pictures that stand for it; empty: there is none
	Calls            int    // of models
	Buckets          bool   // calls of source and sink are among those of its tasks
}

type pageStage struct{ Name, Says string }

type pageTask struct {
	ID, Input, State, Why string
	Way                   []step
	Took                  time.Duration
	Calls                 []postgres.CallRow
	First, More           []pageItem
	Strips                []pageStrip // in place of items, of what was taken apart and put together
	Frames                int         // of all strips
	Whole                 []pageFile  // what was answered about all of it
	Manifest              string
}

// pageItem is one picture of the input with what was made of it.
type pageItem struct {
	Number int
	Before string
	After  []pageFile
	Data   []pageFile
}

type pageFile struct{ Stage, Link, Says string }

// demoManifest is what the page reads of _manifest.json.
type demoManifest struct {
	Items []struct{ Path, SHA256, Media string }

	Outputs []demoOutput
}

type demoOutput struct {
	Path, Media, Stage, Processor, Parent string

	Joined []struct{ Parent string } // of what was put together
}

// gather reads what happened from the record and from the files delivered, and draws the inputs.
func (d *demo) gather(ctx context.Context, store *postgres.Store) (*demoPage, error) {
	p := &demoPage{Left: d.left}
	var took []float64
	for _, x := range d.acts {
		a := x.heading()
		for _, o := range x.outcomes {
			t, err := d.task(ctx, store, x, o)
			if err != nil {
				return nil, err
			}
			a.Tasks = append(a.Tasks, t)
			p.add(t, len(o.Outputs))
			for _, c := range t.Calls {
				if c.Processor != "" {
					took = append(took, c.DurationMS)
					a.Calls++
				}
			}
		}
		a.stand()
		p.Took += x.took
		p.Acts = append(p.Acts, a)
	}
	if slices.Sort(took); len(took) > 0 {
		p.Median = took[len(took)/2]
	}
	return p, nil
}

// add counts a task.
func (p *demoPage) add(t pageTask, files int) {
	p.Tasks++
	if t.State == gantry.Done.String() {
		p.Done++
	}
	p.Items += len(t.First) + len(t.More) + t.Frames
	p.Files += files
	for _, c := range t.Calls {
		if c.Processor == "" {
			continue
		}
		p.Calls++
		p.Sent += c.RequestBytes
		p.Received += c.ResponseBytes
	}
}

func (d *demo) task(ctx context.Context, store *postgres.Store, x *act, o app.Outcome) (pageTask, error) {
	row, err := store.Task(ctx, o.ID)
	if err != nil {
		return pageTask{}, err
	}
	events, err := store.Events(ctx, row.Key)
	if err != nil {
		return pageTask{}, err
	}
	calls, err := x.calls(ctx, store, o.ID)
	if err != nil {
		return pageTask{}, err
	}
	t := pageTask{ID: o.ID, Input: filepath.Base(o.Input), State: o.State, Way: wayOf(x.pipeline, row, events), Calls: calls}
	for _, s := range t.Way {
		t.Took += s.Took
	}
	if o.Error != nil {
		t.Why = o.Error.Code + ": " + o.Error.Message
		return t, nil
	}
	return t, d.pictures(ctx, &t, o)
}

// pictures puts each item of a task beside what was made of it.
func (d *demo) pictures(ctx context.Context, t *pageTask, o app.Outcome) error {
	dir := filepath.Join(d.out, o.ID)
	b, err := os.ReadFile(filepath.Join(dir, "_manifest.json"))
	if err != nil {
		return err
	}
	var m demoManifest
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	input, err := os.ReadFile(o.Input)
	if err != nil {
		return err
	}
	t.Manifest = d.link(dir, "_manifest.json")
	for _, x := range m.Outputs {
		if x.Joined != nil {
			return d.strip(ctx, t, o.Input, dir, m, x)
		}
	}
	return d.pairs(t, dir, input, m)
}

// pairs is pictures where nothing was put together.
func (d *demo) pairs(t *pageTask, dir string, input []byte, m demoManifest) (err error) {
	of := map[string]*pageItem{}
	var items []*pageItem
	for i, x := range m.Items {
		p := &pageItem{Number: i + 1}
		if p.Before, err = d.draw(x.SHA256, input, x.Path); err != nil {
			return err
		}
		of[x.Path] = p
		items = append(items, p)
	}
	for _, x := range m.Outputs {
		f := pageFile{Stage: x.Stage, Link: d.link(dir, x.Path), Says: x.Media}
		if x.Processor != x.Stage && strings.Contains(x.Path, "/"+x.Processor+"/") {
			f.Stage = x.Processor
		}
		if x.Media == gantry.MediaJSON {
			f.Says = says(filepath.Join(dir, filepath.FromSlash(x.Path)))
		}
		switch p := of[x.Parent]; {
		case p == nil:
			t.Whole = append(t.Whole, f)
		case x.Media == gantry.MediaPNG, x.Media == gantry.MediaJPEG:
			p.After = append(p.After, f)
		default:
			p.Data = append(p.Data, f)
		}
	}
	for i, p := range items {
		if i < firstPictures {
			t.First = append(t.First, *p)
		} else {
			t.More = append(t.More, *p)
		}
	}
	return nil
}

// link is a file's place below the page.
func (d *demo) link(dir, path string) string {
	rel, err := filepath.Rel(filepath.Dir(d.page), filepath.Join(dir, filepath.FromSlash(path)))
	if err != nil { // never: both are absolute, or both are not
		return ""
	}
	return filepath.ToSlash(rel)
}

// draw writes the picture of an item of the input, unless it is there, and gives its place below the
// page; empty if the item is none of which a picture can be made.
func (d *demo) draw(sha string, input []byte, path string) (string, error) {
	name := "thumbs/" + sha[:16] + ".png"
	to := filepath.Join(filepath.Dir(d.page), filepath.FromSlash(name))
	if _, err := os.Stat(to); err == nil {
		return name, nil
	}
	body, err := leaf(input, path)
	if err != nil {
		return "", nil
	}
	small, err := models.Thumbnail(body, thumbSide)
	if err != nil {
		return "", nil
	}
	return d.thumb(sha, small)
}

// leaf finds an item by its path in the manifest: input#2#0 is the first file of the archive that
// is the third file of the input.
func leaf(input []byte, path string) ([]byte, error) {
	for _, place := range strings.Split(path, "#")[1:] {
		n, err := strconv.Atoi(place)
		if err != nil {
			return nil, err
		}
		z, err := zip.NewReader(bytes.NewReader(input), int64(len(input)))
		if err != nil {
			return nil, err
		}
		if n < 0 || n >= len(z.File) {
			return nil, fmt.Errorf("no file %d in an archive of %d", n, len(z.File))
		}
		f, err := z.File[n].Open()
		if err != nil {
			return nil, err
		}
		if input, err = io.ReadAll(f); err != nil {
			return nil, err
		}
		f.Close()
	}
	return input, nil
}

// says is an answer in a few words: a score, or what a report counts.
func says(path string) string {
	var x struct {
		Score *float64
		models.Report
	}
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &x) != nil {
		return "data"
	}
	switch {
	case x.Score != nil:
		return fmt.Sprintf("score %.3f", *x.Score)
	case x.Masks == 1 && x.Images == 1:
		return fmt.Sprintf("report: mask covers %.1f %%", x.MaskPercent)
	case x.Masks > 0 && x.MeanScore != nil:
		return fmt.Sprintf("%s, masks cover %.1f %%, mean score %.3f", count(x.Images, "image"), x.MaskPercent, *x.MeanScore)
	}
	return "data"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

//go:embed demopage.html
var demoHTML string

// write renders the page.
func (p *demoPage) write(path string) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"bytes": func(n int64) string { return humanBytes(n) },
		"ms":    func(d time.Duration) string { return d.Round(time.Millisecond).String() },
		"count": count,
		"short": func(s string) string { return s[:min(10, len(s))] },
		"grow":  func(d time.Duration) int64 { return max(1, d.Milliseconds()) },
	}).Parse(demoHTML)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// humanBytes writes a size with a unit.
func humanBytes(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
