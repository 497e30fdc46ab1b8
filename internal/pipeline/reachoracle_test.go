package pipeline

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/s3"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// longestKey is more than any key of a world comes to in which keys do not grow for ever.
const longestKey = 150

// world is a small deployment in one bucket. Whatever may become of an object there can be tried out.
type world struct {
	pipelines []*gantry.Pipeline
	sources   []s3.SourceConfig // one of each
	lays      [][]string        // some of what each lays down
	known     map[string]bool   // whether something goes on from a key for ever
	open      map[string]bool   // the keys of the way that is being tried
}

// newWorld makes a world of up to four pipelines: half of them of few folders, so that moves lead into one another, the others of
// folders and beginnings of names, with patterns.
func newWorld(r *rand.Rand) *world {
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	places, patterns, n := []string{"a/", "b/", "a/b/", "b/a/", "a/a/", "b/b/", "a/b/a/", "b/a/a/"}, []string{""}, 2+r.IntN(3)
	if r.IntN(2) == 0 {
		places, patterns, n = []string{"", "a/", "b/", "a/b/", "a/x-", "b/scan-", "b/s"}, []string{"", "*.dcm", "*.nii", "scan-*", "x-*", "x-*", "[0-9]*"}, 1+r.IntN(3)
	}
	w := &world{known: map[string]bool{}, open: map[string]bool{}}
	for i := range n {
		s := s3.SourceConfig{Bucket: "same", Prefix: one(places...), Pattern: one(patterns...), MoveTo: one("", one(places...)), FailedTo: one("", "", one(places...))}
		for range r.IntN(3) {
			if x := one(s.Prefix, "") + one(places...); x != "" {
				s.Exclude = append(s.Exclude, x)
			}
		}
		sink := s3.SinkConfig{Bucket: one("same", "other"), Prefix: one("", "a/", "b/", "c/b/"), Key: one("", "{pipeline}/{task}/{path}", "a/a/a/{task}/{path}", "b/a/b/{task}/{path}", "b-{task}/{path}")}
		p := &gantry.Pipeline{Name: string(rune('a' + i)), Sources: []gantry.Endpoint{{Name: "in", Config: &s}}, Sinks: []gantry.Endpoint{{Name: "out", Config: &sink}}}
		if r.IntN(8) == 0 {
			p.MoveIf = []gantry.MoveRule{{To: one("a", "b", "c")}}
		}
		var lays []string
		for _, task := range []string{strings.Repeat("ab", 13), strings.Repeat("s", 26)} {
			for _, name := range []string{"find/000001.dcm", "find/task.zip", gantry.ManifestName} {
				if sink.Bucket == s.Bucket {
					lays = append(lays, sink.Prefix+strings.NewReplacer("{pipeline}", p.Name, "{task}", task, "{path}", name).Replace(cmp.Or(sink.Key, gantry.DefaultKey)))
				}
			}
		}
		w.pipelines, w.sources, w.lays = append(w.pipelines, p), append(w.sources, s), append(w.lays, lays)
	}
	return w
}

// refused is what the loader says.
func (w *world) refused() error {
	places := make([]spots, len(w.pipelines))
	for i := range places {
		places[i] = spots{sources: make([]Problem, 1), sinks: make([]Problem, 1)}
	}
	f := newFlow(w.pipelines, nil, places)
	if all := slices.Concat(f.problems, f.loops(places)); len(all) > 0 {
		return all
	}
	return nil
}

// taken are the keys that come of one that a pipeline takes, and moves to others so often.
func (w *world) taken(i, moves int) (keys []string) {
	keys = w.lays[i]
	for j, p := range w.pipelines {
		if moves > 0 && slices.ContainsFunc(w.pipelines[i].MoveIf, func(m gantry.MoveRule) bool { return m.To == p.Name }) {
			keys = slices.Concat(keys, w.taken(j, moves-1))
		}
	}
	return keys
}

// after are the keys that come of one.
func (w *world) after(key string) (keys []string) {
	for i, s := range w.sources {
		rest, below := strings.CutPrefix(key, s.Prefix)
		called, _ := path.Match(cmp.Or(s.Pattern, "*"), path.Base(key))
		if below && called && !slices.ContainsFunc(s.Exclude, func(x string) bool { return strings.HasPrefix(key, x) }) {
			for _, to := range s.Moves() {
				keys = append(keys, to+rest)
			}
			keys = append(keys, w.taken(i, 3)...)
		}
	}
	return keys
}

// endless tells whether something goes on from a key for ever: a key comes again, or keys grow.
func (w *world) endless(key string) bool {
	if w.open[key] || len(key) > longestKey {
		return true
	}
	if _, ok := w.known[key]; !ok {
		w.open[key] = true
		w.known[key] = slices.ContainsFunc(w.after(key), w.endless)
		delete(w.open, key)
	}
	return w.known[key]
}

// example gives a key from which something goes on for ever.
func (w *world) example() string {
	folders := []string{"", "a/a/a/a/", "a/b/a/b/", "b/b/b/b/", "b/a/a/b/", "a/b/b/a/b/b/", "b/a/a/a/a/a/a/b/a/b/", "a/a/a/b/b/b/a/a/b/b/"}
	for _, s := range w.sources {
		for _, x := range []string{"", "a/", "b/", "a/b/", "b/a/", "b/b/", "a/a/", "x-", "scan-"} {
			folders = append(folders, s.Prefix+x)
		}
	}
	for _, folder := range folders {
		for _, name := range []string{"1.dcm", "q/1.nii", "scan-1.dcm", "scan-1.nii", "q/scan-1.dcm", "x-1.dcm", "x-1.nii", "q/x-1.dcm", "q/x-1.nii", "q/scan-1.nii"} {
			if w.endless(folder + name) {
				return folder + name
			}
		}
	}
	return ""
}

// TestRefusedAsItGoes: a deployment is refused if and only if something goes on for ever in it once it is tried out.
func TestRefusedAsItGoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		w := newWorld(rand.New(rand.NewPCG(seed, 0)))
		if err, key := w.refused(), w.example(); (err != nil) != (key != "") {
			what := ""
			for i, p := range w.pipelines {
				what += fmt.Sprintf("\n%s %+v %q %v", p.Name, w.sources[i], w.lays[i], p.MoveIf)
			}
			t.Errorf("seed %d: goes on for ever from %q, but: %v%s", seed, key, err, what)
		}
	}
}
