package dicom

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What is sent to an AE title of our own would be an input again.
func TestTakesOwnResults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, host string
		port         int
		aet          string
		want         bool
	}{
		{"127.0.0.1:11112", "127.0.0.1", 11112, "GANTRY", true},
		{":11112", "LocalHost.", 11112, "GANTRY", true},
		{"0.0.0.0:11112", "::1", 11112, "GANTRY", true},
		{"[::]:11112", "127.0.1.1", 11112, "GANTRY", true},
		{"10.0.0.9:104", "10.0.0.9", 104, "GANTRY", true},
		{"127.0.0.1:11112", "127.0.0.1", 11112, "SECOND", false},
		{"127.0.0.1:11112", "127.0.0.1", 4242, "GANTRY", false},
		{"127.0.0.1:11112", "pacs", 11112, "GANTRY", false},
		{":11112", "10.0.0.9", 11112, "GANTRY", false}, // who knows
	} {
		if got := gantry.TakesResults(SourceConfig{AET: "GANTRY", Listen: c.listen}, SinkConfig{Host: c.host, Port: c.port, AET: c.aet}, "p"); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
