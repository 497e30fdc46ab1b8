package pipeline

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "5m": 5 * time.Minute, "12h": 12 * time.Hour, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour,
		"1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "0s": 0, "0d": 0,
		"1d0.5s": 24*time.Hour + 500*time.Millisecond, "3650d": 3650 * 24 * time.Hour, "7µs": 7 * time.Microsecond,
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		again, err := parseDuration(formatDuration(got))
		if err != nil || again != want {
			t.Errorf("%s: written as %s it is %v, %v", text, formatDuration(got), again, err)
		}
	}
	for text, want := range map[string]string{
		"60": `did you mean "60s"`, "1.5": `did you mean "1.5s"`, "0": "no unit", "-5s": "is negative", "": "is no duration", "d": "is no duration",
		"5 m": "is no duration", "1h1d": "is no duration", "-1d": "is no duration", "1d-1h": "is no duration", "1.5d": "is no duration",
		"1dd": "is no duration", "5w": "is no duration", "5y": "is no duration", "forever": "is no duration", "99999d": "is no duration",
		"4000d": "longer than ten years", "999999h": "longer than ten years", "9999999999h": "is no duration", "NaN": "no unit", "5M": "is no duration",
	} {
		if d, err := parseDuration(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", text, d, err, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 24 * time.Hour: "24h",
		time.Hour + time.Second: "1h0m1s", 70 * time.Minute: "1h10m", 100 * time.Second: "1m40s", 0: "0s", 20 * time.Second: "20s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"20GiB": 20 << 30, "512MiB": 512 << 20, "1KiB": 1 << 10, "64TiB": 64 << 40, "1B": 1, "1500B": 1500, "1024KiB": 1 << 20, "0B": 0,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		written, _ := got.MarshalText()
		var again Size
		if err := again.UnmarshalText(written); err != nil || again != want {
			t.Errorf("%s: written as %s it is %d, %v", text, written, again, err)
		}
	}
	if text, _ := Size(1 << 20).MarshalText(); string(text) != "1MiB" {
		t.Errorf("a MiB is written %s", text)
	}
	for text, want := range map[string]string{
		"100": `did you mean "100B"`, "20GB": `did you mean "20GiB"`, "20gb": `did you mean "20GiB"`, "20G": `did you mean "20GiB"`,
		"5kB": `did you mean "5KiB"`, "": "is no size", "GiB": "is no size", "-1GiB": "is no size", "1.5GiB": "is no size", "5XB": "is no size",
		"9999999999TiB": "is too large", "99999999999999999999B": "is no size", "5 GiB": "is no size",
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v, want %q", text, got, err, want)
		}
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{"20/s": 20, "120/m": 2, "100/m": 100.0 / 60, "3600/h": 1, "0.5/s": 0.5, "1e3/s": 1000} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		written, _ := got.MarshalText()
		var again Rate
		if err := again.UnmarshalText(written); err != nil || again != want {
			t.Errorf("%s: written as %s it is %v, %v", text, written, again, err)
		}
	}
	for text, want := range map[string]string{
		"20": `did you mean "20/s"`, "": "no unit", "/s": "is no rate", "20/": "is no rate", "20/d": "is no rate", "x/s": "is no rate",
		"NaN/s": "is no rate", "Inf/s": "is no rate", "0/s": "is not between", "-1/s": "is not between", "1e9/s": "is not between", "20/s/s": "is no rate",
	} {
		var got Rate
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", text, got, err, want)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"${env:TOKEN}": true, "${env:_t2}": true, "${file:/run/secrets/x}": true, "${file:/a b}": true,
		"": false, "x": false, "${env:}": false, "${env:2}": false, "${file:x}": false, "${file:/}": false, "${file:/a/}": false,
		"${file:/a/../b}": false, "${file:/a//b}": false, "${env:A} ": false, "a${env:A}": false, "${env:A}\n": false, "$env:A": false, "${ENV:A}": false,
	} {
		if got := isReference(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"urgent": "", "normal": "", "offpeak": "", "off-peak": `did you mean "offpeak"`, "urgently": `did you mean "urgent"`,
		"high": "is not one of urgent, normal, offpeak", "5": "is not one of", `dicom.x == "y"`: "", "": "is not one of", `"${env:A}"`: "no variables are put into", strings.Repeat(" x", 1500): "3000 bytes", "a\x00 b": "a control character",
	} {
		var p priority
		err := p.UnmarshalText([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"url", "body", "headers", "timeout", "timeouts", "in_progress", "a"}
	for name, want := range map[string]string{
		"ulr": "url", "urll": "url", "bdoy": "body", "header": "headers", "head": "headers", "tiemout": "timeout", "timeoutss": "timeouts",
		"in_prog": "in_progress", "urlpath": "url", "colour": "", "xyz": "", "b": "", "": "", "address": "", "ab": "a", "ub": "",
		strings.Repeat("x", 100): "", "timeot": "timeout",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for pair, want := range map[[2]string]int{{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"kitten", "sitting"}: 3, {"abc", "abc"}: 0, {"ab", "ba"}: 2} {
		if got := edits(pair[0], pair[1]); got != want {
			t.Errorf("%q: %d, want %d", pair, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	if got := short(strings.Repeat("é", 50)); len([]rune(got)) != 43 {
		t.Errorf("%d characters: %s", len([]rune(got)), got)
	}
	if got := short("a\x1b[31m"); strings.Contains(got, "\x1b") {
		t.Errorf("%s", got)
	}
}

// TestSchema checks how embedded structs and configs share a mapping.
func TestSchema(t *testing.T) {
	t.Parallel()
	p := process{endpoint: endpoint{Config: &httpProcessor{}}}
	s := schemaOf(reflect.ValueOf(&p).Elem())
	if got := strings.Join(s.names(), " "); got != "kind auth timeout limits url body headers" && got != "kind auth url body headers timeout limits" {
		t.Errorf("keys %s", got)
	}
	p.Config = &struct {
		Timeout string   `yaml:"timeout"`
		_       struct{} `later:"future"`
	}{}
	s = schemaOf(reflect.ValueOf(&p).Elem())
	count := 0
	for _, f := range s.fields {
		if f.name == "timeout" {
			count++
		}
	}
	if count != 1 || !strings.Contains(strings.Join(s.later, " "), "future") {
		t.Errorf("%d times timeout, later %v", count, s.later)
	}
}
