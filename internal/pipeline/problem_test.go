package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// printed parses a text that must be wrong and gives what is printed.
func printed(t *testing.T, src string) string {
	t.Helper()
	_, err := Parse("p.yaml", []byte(src), fake{}, variables())
	if _, ok := errors.AsType[Problems](err); !ok {
		t.Fatalf("Parse: %v", err)
	}
	return err.Error()
}

// TestPrinted checks the look of a report, to the character.
func TestPrinted(t *testing.T) {
	t.Parallel()
	src := "gantry: v1\nname: small\nretry:\n  # é before it\n  {factor: 0, \"é\": 1, attempts: 5}\n" +
		"stages: [{name: find, call: finder}]\nprocessors: {finder: {kind: http, url: \"http://a\"}}\n"
	want := `p.yaml:5:12: factor: it must be at least 1
      {factor: 0, "é": 1, attempts: 5}
               ^
p.yaml:5:15: unknown key "é"
      {factor: 0, "é": 1, attempts: 5}
                  ^`
	if diff := cmp.Diff(want, printed(t, src)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestProblemString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    Problem
		want string
	}{
		{Problem{File: "a", Text: "all of it"}, "a: all of it"},
		{Problem{File: "a", Line: 1, Col: 2, Text: "x"}, "a:1:2: x"},
		{Problem{File: "a", Line: 1, Col: 2, Text: "x", Source: "  "}, "a:1:2: x"},
		{Problem{File: "a", Line: 1, Col: 3, Text: "x", Source: "\té: b", Caret: 2}, "a:1:3: x\n    \té: b\n    \t ^"},
		{Problem{File: "a", Line: 1, Col: 3, Text: "x", Source: "ab", Caret: 2}, "a:1:3: x\n    ab\n      ^"},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestLongLine checks that a line of any length is cut around the mistake.
func TestLongLine(t *testing.T) {
	t.Parallel()
	src := sink("text: b, map: {k: " + strings.Repeat("x", 5000) + "}, colour: red, list: [" + strings.Repeat("é", 5000) + "]")
	text := printed(t, src)
	lines := strings.Split(text, "\n")
	if len(lines) != 3 || len([]rune(lines[1])) > excerptWidth+4 || len(lines[2]) != strings.Index(lines[1], "colour")+1 {
		t.Errorf("prints\n%s", text)
	}
}

// TestTerminal checks that a file cannot speak to the terminal that its mistakes are shown on.
func TestTerminal(t *testing.T) {
	t.Parallel()
	text := printed(t, small+"\"a\\e[31m\": x\nb\u202e\u200b: y\n")
	if strings.ContainsAny(text, "\x1b\u202e\u200b") {
		t.Errorf("prints %q", text)
	}
}

// TestNoSecret puts a literal in many wrong places and wants it in no report, whatever else is
// wrong in the same line.
func TestNoSecret(t *testing.T) {
	t.Parallel()
	auth := func(block string) string {
		return strings.Replace(small, `find"}}`, `find", auth: a}}`, 1) + "auth:\n  a: " + block + "\n"
	}
	for name, src := range map[string]string{
		"plain":                       auth(`{kind: bearer, token: hunter2}`),
		"quoted":                      auth(`{kind: bearer, token: "hunter2"}`),
		"beside another mistake":      auth(`{kind: bearer, token: hunter2, colour: red}`),
		"before another mistake":      auth(`{colour: red, kind: bearer, token: hunter2}`),
		"with a reference inside":     auth("{kind: bearer, token: \"hunter2${env:X}\"}"),
		"over two lines":              auth("\n    kind: bearer\n    token: hunter2\n      hunter2\n    colour: hunter3"),
		"over two lines, in quotes":   auth("{kind: bearer, token: \"x\n   hunter2\", colour: red}"),
		"block":                       auth("\n    kind: bearer\n    token: |\n      hunter2\n      hunter2\n    colour: red"),
		"list":                        auth(`{kind: bearer, token: [a, hunter2], colour: red}`),
		"mapping":                     auth(`{kind: bearer, token: {a: hunter2}, colour: red}`),
		"misspelt key":                auth(`{kind: bearer, tokn: hunter2}`),
		"misspelt key of a block":     auth("\n    kind: basic\n    username: u\n    pasword: hunter2"),
		"twice":                       auth("{kind: bearer, token: '${env:X}', token: hunter2}"),
		"of an unknown kind":          auth(`{kind: apikey, secret: hunter2, colour: red}`),
		"of no kind":                  auth(`{password: hunter2}`),
		"tagged":                      auth(`{kind: bearer, token: !!str hunter2}`),
		"anchored":                    auth(`{kind: bearer, token: &a hunter2}`),
		"in a wrong section":          small + "credentials: {token: hunter2}\n",
		"number":                      strings.ReplaceAll(auth(`{kind: bearer, token: 7777777}`), "7777777", "123hunter2"),
		"no YAML after it":            auth("{kind: bearer, token: hunter2: x}"),
		"no YAML in the line after":   auth("\n    token: hunter2\n      kind: hunter2"),
		"open quotes":                 auth(`{kind: bearer, token: "hunter2`),
		"with a blank":                auth(`{kind: bearer, token: hunter 2hunter2, colour: red}`),
		"of a named header":           auth(`{kind: header, header: X-Key, value: hunter2}`),
		"of a driver":                 sink("secret: hunter2, colour: red"),
		"of a driver, misspelt":       sink("secrt: hunter2"),
		"in a header":                 strings.Replace(small, `find"}}`, `find", headers: {Authorization: Bearer hunter2}, colour: red}}`, 1),
		"at the end without newline":  strings.TrimSuffix(auth(`{kind: bearer, token: hunter2, colour: red}`), "\n"),
		"in a file with CRLF":         strings.ReplaceAll(auth("\n    kind: bearer\n    token: hunter2\n    colour: red"), "\n", "\r\n"),
		"in a file with a byte order": "\ufeff" + auth("\n    kind: bearer\n    token: hunter2\n    colour: red"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text := printed(t, src); strings.Contains(text, "hunter2") {
				t.Errorf("prints\n%s", text)
			}
		})
	}
	if text := printed(t, sink("secret: '${env:HUNTER}', colour: red")); !strings.Contains(text, "${env:HUNTER}") {
		t.Errorf("a reference is no secret:\n%s", text)
	}
}

// TestOrderAndCap checks that the mistakes are sorted by their place, and that they end.
func TestOrderAndCap(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 3 * maxProblems {
		fmt.Fprintf(&b, "colour%d: x\n", i)
	}
	_, err := Parse("p.yaml", []byte(small+b.String()), fake{}, variables())
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != maxProblems+1 || !strings.Contains(problems[maxProblems].Text, "more than 100 mistakes") {
		t.Fatalf("%d problems, the last: %v", len(problems), problems[len(problems)-1])
	}
	for i := 1; i < maxProblems; i++ {
		if problems[i].Line < problems[i-1].Line {
			t.Errorf("%v comes after %v", problems[i], problems[i-1])
		}
	}
	_, err = Parse("p.yaml", []byte("gantry: v1\nprocessors: {b: {kind: x}, a: {kind: y}}\nname: A\nstages: [{name: s, call: c}]\n"), fake{}, variables())
	problems, _ = errors.AsType[Problems](err)
	var places []string
	for _, p := range problems {
		places = append(places, fmt.Sprintf("%d:%d", p.Line, p.Col))
	}
	if diff := cmp.Diff([]string{"2:14", "2:24", "2:28", "2:38", "3:7", "4:26"}, places); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
}

func TestAsterisks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line     string
		from, to int
		want     string
	}{
		{"token: abc", 8, 11, "token: ***"}, {"a b\tc", 1, 99, "* *\t*"}, {"é: éé, x", 4, 6, "é: **, x"}, {"abc", 9, 12, "abc"}, {"", 1, 5, ""}, {"abc", 0, 2, "*bc"},
	} {
		if got := asterisks(c.line, c.from, c.to); got != c.want {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

// TestNoError guards against a nil Problems in an error that is not nil.
func TestNoError(t *testing.T) {
	t.Parallel()
	if err := newReport("x", nil).err(); err != nil {
		t.Errorf("%T", err)
	}
	if p, err := Parse("p.yaml", []byte(small), fake{}, variables()); err != nil || p == nil {
		t.Errorf("%v, %v", p, err)
	}
}
