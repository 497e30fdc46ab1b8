package pipeline

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzParse wants no panic and an end in bounded time; of what is wrong, mistakes that can be
// printed and have a place in the file; of what is right, the same version back from its resolved
// form.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../../pipelines/*.yaml")
	bad, _ := filepath.Glob("../../pipelines/bad/*.yaml")
	for _, file := range append(files, bad...) {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte(full))
	f.Add([]byte(small))
	f.Add([]byte(sink("text: b, flag: false, int: -5, wait: 1d12h, size: 1GiB, secret: \"${env:S}\", one: ../x, sub: {need: n}")))
	f.Fuzz(func(t *testing.T, src []byte) {
		began := time.Now()
		p, err := Parse("/etc/gantry/p.yaml", src, fake{}, variables("ROOT", "/mnt", "ROUTE", "v1"))
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("%d bytes took %v", len(src), took)
		}
		if err == nil {
			checkResolved(t, p.Resolved)
			return
		}
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) == 0 || p != nil {
			t.Fatalf("%v and %T", p, err)
		}
		lines := bytes.Count(bytes.ReplaceAll(src, []byte("\r"), []byte("\n")), []byte("\n")) + 2
		for i, x := range problems {
			if x.String() == "" || x.Text == "" || x.Line > lines || x.Caret > len([]rune(x.Source)) {
				t.Fatalf("problem %+v of %d lines", x, lines)
			}
			if i > 0 && x.Line > 0 && x.Line < problems[i-1].Line {
				t.Fatalf("%v after %v", x, problems[i-1])
			}
		}
	})
}

func checkResolved(t *testing.T, resolved []byte) {
	t.Helper()
	f, _, err := parseResolved(resolved, fake{})
	if err != nil {
		t.Fatalf("%v\n%s", err, resolved)
	}
	again, _, err := resolve(f)
	if err != nil || !bytes.Equal(again, resolved) {
		t.Fatalf("%v\n%s\n%s", err, resolved, again)
	}
}

// FuzzParseResolved reads what stands in the database; whatever does, it must not panic, and what
// is read must be written alike for good.
func FuzzParseResolved(f *testing.F) {
	p, err := Parse("/etc/gantry/p.yaml", []byte(full), fake{}, variables("ROOT", "/mnt", "ROUTE", "v1"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Resolved)
	f.Add([]byte(full))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := ParseResolved(doc, fake{})
		if err != nil {
			return
		}
		if p.Version.IsZero() || !bytes.Equal(p.Resolved, doc) {
			t.Fatal("the version is of something else")
		}
		file, _, _ := parseResolved(doc, fake{})
		once, _, err := resolve(file)
		if err != nil {
			t.Fatal(err)
		}
		checkResolved(t, once)
	})
}
