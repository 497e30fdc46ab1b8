package media

import "testing"

func TestUnsafeName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"":                       true,
		".":                      true,
		"./":                     true,
		"..":                     true,
		"./..":                   true,
		"../../etc/evil.dcm":     true,
		"a/../../evil.dcm":       true,
		"a/..":                   true,
		"/etc/evil.dcm":          true,
		`..\..\evil.dcm`:         true,
		`a\..\..\evil.dcm`:       true,
		`a/..\../evil.dcm`:       true,
		`C:\evil.dcm`:            true,
		"c:evil.dcm":             true,
		"z:/evil.dcm":            true,
		`\\host\share\evil.dcm`:  true,
		`\evil.dcm`:              true,
		"ok.dcm\x00/../evil.dcm": true,
		"\x00":                   true,
		"ok.dcm":                 false,
		"a/b/c.dcm":              false,
		`a\b\c.dcm`:              false,
		"a/../b.dcm":             false, // stays inside
		"./a.dcm":                false,
		"...":                    false,
		"..a/b..":                false,
		"1:2.dcm":                false,
		"CON":                    false,
		"M\x81ller.dcm":          false,
		"\x8eR\x93c.dcm":         false,
		"\u202emcd.gpj":          false,
		"a//b.dcm":               false,
	} {
		if got := unsafeName(name); got != want {
			t.Errorf("unsafeName(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"":                     "",
		"a/b c.dcm":            "a/b c.dcm",
		"100%.dcm":             "100%.dcm",
		"Müller.dcm":           "Müller.dcm",
		"山田\u3000太郎.dcm":       "山田\u3000太郎.dcm",
		"M\x81ller.dcm":        "M%81ller.dcm",
		"\x8eR\x93c.dcm":       "%8ER%93c.dcm",
		"\xff\xfe.dcm":         "%FF%FE.dcm",
		"\u202emcd.gpj":        "%E2%80%AEmcd.gpj",
		"a\nb\x1b[31m\x00\x7f": "a%0Ab%1B[31m%00%7F",
		"a\u0085\u2028\ufeff":  "a%C2%85%E2%80%A8%EF%BB%BF",
		"\ufffd":               "\ufffd",
		"\xe2\x80":             "%E2%80",
		"\xed\xa0\x80":         "%ED%A0%80", // half of a surrogate pair
	} {
		if got := printable(raw); got != want {
			t.Errorf("printable(%q) = %q, want %q", raw, got, want)
		}
	}
}
