package pipeline

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// mockWords are what a mock may say besides JSON, as far as they have a key.
var mockWords = []string{gantry.MockFile, gantry.MockError}

// checkTests holds the entries of tests against the processors and against themselves. That their
// inputs are there is looked at when they run: a deployment may do without them.
func (d *decoder) checkTests(f *file) {
	processors := d.names("processor", "processors", sorted(f.Processors))
	named := map[string]bool{}
	for i, t := range f.Tests {
		path := fmt.Sprintf("tests[%d]", i)
		if named[t.Name] && t.Name != "" {
			d.at(d.placeOf(join(path, "name")).value, "name: another test is named %s", short(t.Name))
		}
		named[t.Name] = true
		for _, name := range sorted(t.Mock) {
			at := join(path, "mock."+name)
			d.known(processors, "mock", name, at)
			d.checkMock(t.Mock[name], at)
		}
		for _, name := range sorted(t.Expect.Calls) {
			d.known(processors, "calls", name, join(path, "expect.calls."+name))
		}
		if t.Expect.Error != "" && t.Expect.State == gantry.Done.String() {
			d.at(d.placeOf(join(path, "expect.error")).value, "error: it goes with state: failed or cancelled, not with state: done")
		}
	}
}

// known reports a key that is the name of nothing. It is no use of what it names.
func (d *decoder) known(n *names, where, name, path string) {
	if !n.open && !slices.Contains(n.defined, name) {
		d.at(d.keyOf(path), "%s: no %s %s%s", where, n.what, short(name), didYouMean(nearest(name, n.defined)))
	}
}

// checkMock looks at an answer that is not JSON, and makes the path of its file absolute.
func (d *decoder) checkMock(answer any, path string) {
	if text, ok := answer.(string); ok && strings.HasPrefix(text, "$") && text != gantry.MockEcho {
		d.at(d.placeOf(path).value, "mock: %s is no answer; there is %s, which gives back what was sent%s", short(text), gantry.MockEcho,
			didYouMean(nearest(text, []string{gantry.MockEcho})))
	}
	m, _ := answer.(map[string]any)
	for _, word := range sorted(m) {
		if !strings.HasPrefix(word, "$") {
			continue
		}
		at := join(path, word)
		text, isText := m[word].(string)
		_, isKind := gantry.ParseKind(text)
		switch {
		case !slices.Contains(mockWords, word):
			d.at(d.keyOf(at), "mock: %s is no answer; there is %s%s", short(word), strings.Join(mockWords, ", "), didYouMean(nearest(word, mockWords)))
		case len(m) > 1:
			d.at(d.keyOf(at), "mock: %s stands alone", word)
		case word == gantry.MockError && !isKind:
			d.at(d.placeOf(at).value, "mock: %s is a kind of failure: transient, timeout, unavailable, bad_response, denied, not_found, permanent or illegal", word)
		case word == gantry.MockFile && (!isText || text == ""):
			d.at(d.placeOf(at).value, "mock: %s is a path", word)
		case word == gantry.MockFile && !filepath.IsAbs(text):
			m[word] = filepath.Join(d.dir, text)
		}
	}
}
