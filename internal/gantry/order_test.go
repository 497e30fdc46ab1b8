package gantry

import (
	"strings"
	"testing"
	"time"
)

func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestWindows asks windows about moments, given in UTC. Berlin is an hour ahead of it in winter, two in summer.
func TestWindows(t *testing.T) {
	t.Parallel()
	for text, moments := range map[string]map[string]bool{
		"22:00-06:00 UTC": {"2026-11-26T21:59:59Z": false, "2026-11-26T22:00:00Z": true, "2026-11-27T05:59:59Z": true, "2026-11-27T06:00:00Z": false},
		// Thursday is the 26th. The night from Friday to Saturday belongs to Friday.
		"mon-fri 22:00-06:00 UTC": {"2026-11-28T05:00:00Z": true, "2026-11-28T23:00:00Z": false, "2026-11-29T03:00:00Z": false, "2026-11-30T03:00:00Z": false, "2026-11-30T22:30:00Z": true},
		"fri-mon 08:00-09:00 UTC": {"2026-11-27T08:30:00Z": true, "2026-11-29T08:30:00Z": true, "2026-12-01T08:30:00Z": false, "2026-11-26T08:30:00Z": false},
		"sat,sun 00:00-24:00 UTC": {"2026-11-28T00:00:00Z": true, "2026-11-29T23:59:59Z": true, "2026-11-30T00:00:00Z": false, "2026-11-27T23:59:59Z": false},
		"sat 18:00-18:00 UTC":     {"2026-11-28T17:59:00Z": false, "2026-11-28T18:00:00Z": true, "2026-11-29T17:59:00Z": true, "2026-11-29T18:00:00Z": false},
		"22:00-06:00 Europe/Berlin": {"2026-11-26T20:59:00Z": false, "2026-11-26T21:00:00Z": true, "2026-07-26T20:00:00Z": true, "2026-07-26T19:59:00Z": false,
			"2026-07-27T03:59:00Z": true, "2026-07-27T04:00:00Z": false},
		// On 29 March 2026 two o'clock is skipped, on 25 October it comes twice.
		"01:30-03:30 Europe/Berlin": {"2026-03-29T00:29:00Z": false, "2026-03-29T00:30:00Z": true, "2026-03-29T01:29:00Z": true, "2026-03-29T01:30:00Z": false,
			"2026-10-24T23:30:00Z": true, "2026-10-25T00:30:00Z": true, "2026-10-25T01:30:00Z": true, "2026-10-25T02:30:00Z": false},
		"02:10-02:50 Europe/Berlin": {"2026-03-29T00:30:00Z": false, "2026-03-29T01:30:00Z": false, "2026-10-25T00:30:00Z": true, "2026-10-25T01:30:00Z": true},
	} {
		w, err := ParseWindows(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for at, open := range moments {
			if w.Open(moment(t, at)) != open {
				t.Errorf("%s at %s: open %t", text, at, !open)
			}
		}
		again, err := ParseWindows(w.String())
		if err != nil || again.String() != w.String() {
			t.Errorf("%s is written %s, read as %s (%v)", text, w, again, err)
		}
	}
}

func TestUntilWindows(t *testing.T) {
	t.Parallel()
	for text, c := range map[string][2]string{
		"":                          {"2026-11-26T12:00:00Z", "0s"},
		"22:00-06:00 UTC":           {"2026-11-26T21:30:30Z", "29m30s"},
		"wed 22:00-06:00 UTC":       {"2026-11-26T06:00:00Z", "160h0m0s"}, // it has just closed, until the next Wednesday
		"02:10-02:50 Europe/Berlin": {"2026-03-28T12:00:00Z", "36h10m0s"}, // the next one is skipped
		"sat 10:00-11:00 UTC;sun 10:00-11:00 UTC": {"2026-11-28T11:00:00Z", "23h0m0s"},
	} {
		w, err := ParseWindows(text)
		if got := w.Until(moment(t, c[0])); err != nil || got.String() != c[1] {
			t.Errorf("%q at %s: open in %s, want %s (%v)", text, c[0], got, c[1], err)
		}
	}
}

func TestBadWindows(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "22:00-06:00", "22:00 UTC", "22-06 UTC", "24:00-06:00 UTC", "22:00-24:01 UTC", "22:60-23:00 UTC", "+1:00-02:00 UTC", "22:00-06:00 Local", "22:00-06:00 Middle/Earth",
		"22:00-06:00 ../../etc/passwd", "mon 22:00-06:00 UTC more", "Mon 22:00-06:00 UTC", "mon- 22:00-06:00 UTC", ", 22:00-06:00 UTC", "mon-fri-sat 22:00-06:00 UTC", "22:00-06:00 " + strings.Repeat("a", 5000)} {
		if w, err := ParseWindow(text); err == nil {
			t.Errorf("%q is read as %s", text, w)
		}
	}
}

// FuzzWindow reads any text: what is accepted is written and read again as the same, and can be asked about any time.
func FuzzWindow(f *testing.F) {
	for _, s := range []string{"mon-fri 22:00-06:00 Europe/Berlin", "22:00-06:00 UTC", "sat,sun 00:00-24:00 America/New_York", "sun-sat 12:00-12:00 Asia/Kathmandu"} {
		f.Add(s, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		again, err := ParseWindow(w.String())
		if err != nil || again.String() != w.String() {
			t.Fatalf("%q is written %q: %v", text, w, err)
		}
		when := time.Unix(at%(1<<33), 0)
		all := Windows{w}
		if d := all.Until(when); d < 0 || d > 8*24*time.Hour || d == 0 != w.Open(when) {
			t.Errorf("%s at %s: open in %s", w, when, d)
		}
	})
}
