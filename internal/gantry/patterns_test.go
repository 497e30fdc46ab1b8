package gantry

import (
	"path"
	"testing"
)

func TestPatternsMeet(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]bool{
		{"*", "*"}: true, {"*", ""}: true, {"", ""}: true, {"a", "a"}: true, {"a", "b"}: false, {"*.dcm", "*.nii"}: false, {"scan-*", "*.dcm"}: true, {"scan-*", "0*"}: false,
		{"*a*b*", "*b*a*"}: true, {"a*b", "*a"}: false, {"??", "a*"}: true, {"?", "ab"}: false, {"a?c", "ab?"}: true, {"[a-f]*", "[f-k]*"}: true, {"[a-e]*", "[f-k]*"}: false,
		{"[^a]", "[a-b]"}: true, {"[^a]", "a"}: false, {"[^a]", "[^b]"}: true, {"[^a-z]x", "?x"}: true, {`\*`, "[^*]"}: false, {`\*`, "*"}: true, {"[ac]", "b"}: false, {"[b-d]", "[ae]"}: false,
		{"[^b-d]", "[a-e]"}: true, {"[^a-e]", "[a-e]"}: false, {"*é", "?é"}: true, {"[", "*"}: false, {"*", "[]"}: false, {"a*a*a*a*a*a*a*a*b", "a*a*a*a*a*a*a*c"}: false,
	} {
		x, y := called{pattern: pair[0]}, called{pattern: pair[1]}
		if patternsMeet(x, y, false) != want || patternsMeet(y, x, false) != want {
			t.Errorf("%q and %q meet: %t", pair[0], pair[1], !want)
		}
	}
}

// TestPatternsMeetBehind: what follows the beginnings of two names has to make them match.
func TestPatternsMeetBehind(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]called]bool{
		{{"x-", "x-*"}, {"", "scan-*"}}: true, {{"x-", "scan-*"}, {"", "scan-*"}}: false, {{"scan-", "scan-*"}, {"s", "scan-*"}}: true, {{"a", "*.dcm"}, {"b", "*.nii"}}: false,
		{{"x.d", "*.dcm"}, {"", "cm"}}: true, {{"x.d", "*.dcm"}, {"", "dcm"}}: false, {{"é", "[é]?"}, {"", "a"}}: true, {{"ab", "a"}, {"", "*"}}: false, {{"aaa", "*a*b"}, {"a", "?c*b"}}: true,
	} {
		if patternsMeet(pair[0], pair[1], true) != want || patternsMeet(pair[1], pair[0], true) != want {
			t.Errorf("%q meet: %t", pair, !want)
		}
	}
}

// FuzzPatternsMeet: two patterns that match one name meet.
func FuzzPatternsMeet(f *testing.F) {
	f.Add("*.dcm", "[0-9]*", "1.dcm")
	f.Add("[^a-c]?*", `\d[!-~]`, "da")
	f.Fuzz(func(t *testing.T, a, b, name string) {
		x, err := path.Match(a, name)
		y, err2 := path.Match(b, name)
		if x && y && err == nil && err2 == nil && !patternsMeet(called{pattern: a}, called{pattern: b}, false) {
			t.Errorf("%q and %q match %q", a, b, name)
		}
	})
}
