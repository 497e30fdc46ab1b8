package pipeline

import (
	"bytes"
	"strings"
	"testing"
)

// TestHostile gives the parser what attacks YAML parsers: each must be refused, for the right
// reason and at once.
func TestHostile(t *testing.T) {
	t.Parallel()
	bomb := "gantry: v1\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
	}
	for name, c := range map[string]struct{ src, want string }{
		"empty":                {"", "the file is empty"},
		"comment only":         {"# nothing\n", "the file is empty"},
		"documents of nothing": {"---\n---\n", "a second document"},
		"null":                 {"~\n", "want a mapping of keys to values, have nothing"},
		"word":                 {"hello\n", "want a mapping of keys to values, have one value"},
		"too large":            {small + strings.Repeat("#\n", maxFile/2), "more than the 1048576 allowed"},
		"alias bomb":           {bomb, "pipeline files have no anchors"},
		"alias of itself":      {"gantry: &a [*a]\n", "no"},
		"deep lists":           {"gantry: v1\na: " + strings.Repeat("[", 300000), "exceeded max depth"},
		"deep mappings":        {strings.Repeat("{a: ", 200000), "exceeded max depth"},
		"deep blocks":          {strings.Repeat("- ", 300000), "exceeded max depth"},
		"deep keys":            {strings.Repeat("? ", 300000), "exceeded max depth"},
		"deep indentation":     {deepBlocks(1000), "exceeded max depth"},
		"NUL":                  {"gantry: v1\nname: a\x00b\n", "2:8: control character U+0000"},
		"escape":               {"gantry: v1\nname: \x1b[31m\n", "2:7: control character U+001B"},
		"DEL":                  {"a: \x7f\n", "1:4: control character U+007F"},
		"NEL":                  {"a: é\u0085b: c\n", "1:5: control character U+0085"},
		"line separator":       {"a: x\u2028b: c\n", "1:5: control character U+2028"},
		"byte order mark":      {"a: \ufeffx\n", "1:4: control character U+FEFF"},
		"not UTF-8":            {"a: b\r\nc: \xff\n", "2:4: byte 0xff is not UTF-8"},
		"half a character":     {"a: \xe2\x82", "1:4: byte 0xe2 is not UTF-8"},
		"surrogate":            {"a: \xed\xa0\x80", "1:4: byte 0xed is not UTF-8"},
		"UTF-16":               {"\xff\xfeg\x00", "byte 0xff is not UTF-8"},
		"gzip":                 {"\x1f\x8b\x08\x00", "control character U+001F"},
		"second document":      {small + "---\n" + small, "6:1: a second document begins here"},
		"broken second one":    {small + "---\n[[", "not YAML"},
		"directive":            {"%YAML 1.0\n---\n" + small, "not YAML: found incompatible YAML document"},
		"tag of a directive":   {"%TAG ! tag:x.org,2000:\n---\n" + small + "description: !y z\n", "pipeline files have no tags"},
		"language tag":         {small + "description: !!python/object:os.system x\n", "pipeline files have no tags"},
		"binary tag":           {small + "description: !!binary aGk=\n", "pipeline files have no tags"},
		"tag of nothing":       {small + "description: ! x\n", "tag !: pipeline files have no tags"},
		"tagged mapping":       {small + "retry: !!map {attempts: 3}\n", "pipeline files have no tags"},
		"tagged key":           {small + "!!str retry: {attempts: 3}\n", "pipeline files have no tags"},
		"anchored key":         {small + "&a retry: {attempts: 3}\n", "pipeline files have no anchors"},
		"alias as a key":       {"gantry: v1\nname: &n a\n*n : b\n", "alias *n: pipeline files have no aliases"},
		"merge of a list":      {small + "<<: [{retry: {attempts: 3}}]\n", "merge key <<"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := mistakes(t, c.src)
			if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func deepBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestBroad gives the parser as much as a file may hold, of everything: it must end soon, with few
// mistakes.
func TestBroad(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string]string{
		"keys": "k: v\n", "numbered lists": "- [a, b]\n", "empty keys": "? \n", "comments": "# x\n", "newlines": "\n",
		"stages": "  - {name: a, call: b}\n", "quotes": "\"", "commas": ", ", "colons": ": ", "brackets": "[] ", "anchors": "&a ", "pipes": "|",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			head := ""
			if name == "stages" {
				head = "gantry: v1\nname: x\nstages:\n"
			}
			src := head + strings.Repeat(unit, (1<<17)/len(unit))
			if got := mistakes(t, src); len(got) == 0 || len(got) > maxProblems+1 {
				t.Errorf("%d mistakes", len(got))
			}
		})
	}
}

// TestAllowed is what must not be refused by the checks above.
func TestAllowed(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{
		"byte order mark":     "\ufeff" + small,
		"CRLF":                strings.ReplaceAll(small, "\n", "\r\n"),
		"CR":                  strings.ReplaceAll(small, "\n", "\r"),
		"document marks":      "---\n" + small + "...\n",
		"comments":            "# é 日本 \U0001F600\n" + small + "# the end",
		"tabs after a value":  strings.ReplaceAll(small, "v1", "v1\t# tab"),
		"largest":             small + strings.Repeat("#", maxFile-len(small)),
		"quoted keys":         strings.ReplaceAll(small, "name: small", `"name": 'small'`),
		"block text":          small + "description: |\n  two\n  lines\n",
		"complex key of text": small + "? description\n: x\n",
		"JSON":                `{"gantry": "v1", "name": "x", "stages": [{"name": "s", "call": ["p"]}], "processors": {"p": {"kind": "http", "url": "http://a"}}}`,
	} {
		if got := mistakes(t, src); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestPositions checks that line ends and wide characters do not shift the place of a mistake.
func TestPositions(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"} {
		src := strings.ReplaceAll("\ufeff"+small+"description: {日本: \U0001F600, \t x: y}\nretry: {attempts: 0}\n", "\n", end)
		got := strings.Join(mistakes(t, src), "\n")
		want := "5:14: description: want one value, have a mapping\n6:19: attempts: it must be at least 1"
		if got != want {
			t.Errorf("%s: %s", name, got)
		}
		_, err := Parse("p.yaml", []byte(src), fake{}, variables())
		if text := err.Error(); !strings.HasSuffix(text, "\n    retry: {attempts: 0}\n                      ^") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, c := range "a é\t\n日\U0001F600\u00a0" {
		if !printable(c) {
			t.Errorf("%U is refused", c)
		}
	}
	for _, c := range []rune{0, 7, '\r', 0x1b, 0x7f, 0x85, 0x9f, 0x2028, 0x2029, 0xfeff, 0xfffe, 0xffff} {
		if printable(c) {
			t.Errorf("%U is allowed", c)
		}
	}
}

// TestSourceUntouched guards the caller's bytes.
func TestSourceUntouched(t *testing.T) {
	t.Parallel()
	src := []byte("\ufeff" + strings.ReplaceAll(small, "\n", "\r\n") + "auth: {a: {kind: bearer, token: x}}")
	before := bytes.Clone(src)
	_, _ = Parse("p.yaml", src, fake{}, variables())
	if !bytes.Equal(src, before) {
		t.Error("Parse changed its input")
	}
}
