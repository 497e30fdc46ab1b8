package gantry

import (
	"context"
	"strings"
	"testing"
	"time"
)

func about() About {
	return About{Pipeline: "echo", Task: "abcdefghijklmnopqrstuvwxyz", Created: time.Date(2026, 3, 1, 23, 30, 0, 0, time.FixedZone("", -3600)),
		Source: func(context.Context) (string, error) { return "inbox", nil }, Stage: "find", Processor: "finder", Call: "abc/0/find", Below: "find/000001.json"}
}

func TestTemplateFills(t *testing.T) {
	t.Parallel()
	later := about()
	later.Leg, later.Delivery = 2, 3
	for _, c := range []struct {
		text, first, later string
	}{
		{"{task}/{path}", "abcdefghijklmnopqrstuvwxyz/find/000001.json", "abcdefghijklmnopqrstuvwxyz/leg2/r3/find/000001.json"},
		{"{pipeline}/{date}/{task}/{path}", "echo/2026-03-02/abcdefghijklmnopqrstuvwxyz/find/000001.json", "echo/2026-03-02/abcdefghijklmnopqrstuvwxyz/leg2/r3/find/000001.json"},
		{"{year}/{month}/{day}/{task}/v{delivery}/{path}", "2026/03/02/abcdefghijklmnopqrstuvwxyz/v0/find/000001.json", "2026/03/02/abcdefghijklmnopqrstuvwxyz/v3/leg2/find/000001.json"},
		{"{source}/{task}_{leg}.{delivery}/{path}", "inbox/abcdefghijklmnopqrstuvwxyz_0.0/find/000001.json", "inbox/abcdefghijklmnopqrstuvwxyz_2.3/find/000001.json"},
	} {
		k, err := ParseKey(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		for a, want := range map[*About]string{new(about()): c.first, &later: c.later} {
			if got, err := k.Fill(t.Context(), Delivery{About: *a}); got != want || err != nil {
				t.Errorf("%s: %q, %v, want %q", c.text, got, err, want)
			}
		}
	}
	if got := later.Path(); got != "abcdefghijklmnopqrstuvwxyz/leg2/r3/find/000001.json" {
		t.Errorf("by default: %s", got)
	}
	v, err := ParseTemplate("by {processor} of {stage}: {call} {sha256}")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := v.Fill(t.Context(), Delivery{About: about(), SHA: Digest{1}}); !strings.HasPrefix(got, "by finder of find: abc/0/find 01000") {
		t.Error(got)
	}
	if !v.Has("call") || v.Has("task") || v.Empty() || v.Longest() != len("by  of :  ")+63+63+200+64 {
		t.Errorf("%d bytes at most", v.Longest())
	}
}

// What would let the outputs of two tasks, legs or deliveries meet under one key is no template.
func TestKeysKeepApart(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"":                               "{task} is missing",
		"{path}":                         "{task} is missing",
		"{date}/{path}":                  "{task} is missing",
		"{task}":                         "end in /{path}",
		"{task}/{path}/x":                "end in /{path}",
		"{task}{path}":                   "has to stand",
		"{task}/{leg}{delivery}/{path}":  "has to stand",
		"{task}/{leg}1{delivery}/{path}": "has to stand",
		"{task}/{task}/{path}":           "twice",
		"{stage}/{task}/{path}":          "differs between the outputs",
		"{sha256}/{task}/{path}":         "differs between the outputs",
		"../{task}/{path}":               "it is no path",
		"/{task}/{path}":                 "it is no path",
		"a//{task}/{path}":               "it is no path",
		"a b/{task}/{path}":              "only letters",
		"a\\{task}/{path}":               "only letters",
		"ä/{task}/{path}":                "only letters",
		"{name}/{task}/{path}":           "{name} is no variable",
		"{PatientID}/{task}/{path}":      "{PatientID} is no variable",
		"{task/{path}":                   "is no variable",
		"task}/{path}":                   "closes nothing",
		"{":                              "is no variable",
	} {
		_, err := ParseKey(text)
		if err == nil || !strings.Contains(err.Error(), why) || KindOf(err) != Illegal || CodeOf(err) != CodeBadTemplate {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMayBegin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, with string
		want       bool
	}{
		{"{task}/{path}", "", true},
		{"{task}/{path}", "abc", true},
		{"{task}/{path}", "drop/", false},
		{"{task}/{path}", "0", false},
		{"{task}/{path}", "abcdefghijklmnopqrstuvwxyz/", true},
		{"{task}/{path}", "abcdefghijklmnopqrstuvwxyz/find/000", true},
		{"{task}/{path}", "abcdefghijklmnopqrstuvwxyz0/", false},
		{"{pipeline}/{task}/{path}", "drop/", true},
		{"{pipeline}/{task}/{path}", "drop/in/", false},
		{"{pipeline}/{task}/{path}", "Drop/", false},
		{"{date}/{task}/{path}", "drop/", false},
		{"{date}/{task}/{path}", "2026-01-01/", true},
		{"out/{task}/{path}", "out/", true},
		{"out/{task}/{path}", "ou", true},
		{"out/{task}/{path}", "in", false},
	} {
		k, err := ParseKey(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.MayBegin(c.with); got != c.want {
			t.Errorf("%s begins with %q: %v", c.text, c.with, got)
		}
	}
}

// A key that parses has its task and path apart, whatever it looks like, and what it gives is a path.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"{task}/{path}", "{pipeline}/{date}/{task}/{path}", "a{leg}.{delivery}/{task}/{path}", "{", "}", "{task}{path}", "..{task}/{path}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			if CodeOf(err) != CodeBadTemplate {
				t.Fatal(err)
			}
			return
		}
		seen := map[string]bool{}
		for leg := range int16(12) {
			for delivery := range int16(12) {
				for _, task := range []string{"abcdefghijklmnopqrstuvwxyz", "bbcdefghijklmnopqrstuvwxyz"} {
					a := about()
					a.Leg, a.Delivery, a.Task = leg, delivery, task
					got, err := k.Fill(t.Context(), Delivery{About: a})
					if err != nil || seen[got] || !strings.HasSuffix(got, "/find/000001.json") || len(got) > k.Longest() || !k.MayBegin(got[:len(got)/2]) {
						t.Fatalf("%q: %q, %v", text, got, err)
					}
					seen[got] = true
				}
			}
		}
	})
}
