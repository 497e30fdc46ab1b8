package dir

import "testing"

func TestWants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"", "_done", true}, {"*", "a.dcm", true}, {"*.dcm", "_done", false}, {"*", ".done", false}, {"*", "a.part", false}, {"[", "a", false}} {
		if got := (SourceConfig{Pattern: c.pattern}).Wants(c.name); got != c.want {
			t.Errorf("%q of %q: %t", c.name, c.pattern, got)
		}
	}
}
