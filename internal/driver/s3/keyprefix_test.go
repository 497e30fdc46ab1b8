package s3

import "testing"

func TestWants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"", "_done", true}, {"*.dcm", "a.dcm", true}, {"*.dcm", "_done", false}, {"[", "a", false}} {
		if got := (SourceConfig{Pattern: c.pattern}).Wants(c.name); got != c.want {
			t.Errorf("%q of %q: %t", c.name, c.pattern, got)
		}
	}
	if (SourceConfig{Prefix: "in/"}).KeyPrefix() != "in/" {
		t.Error("another prefix")
	}
}
