package dicomweb

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// asked is an archive at a URL, asked over the gate, with what is put on record of it.
func asked(t *testing.T, url string) (a gantry.Expecting, ctx context.Context, written func() []gantry.Control) {
	t.Helper()
	c := ArchiveConfig{URL: url}
	a, err := NewArchive(t.Context(), c, gate.NewEgress(c.Target(), gate.Policy{}))
	if err != nil {
		t.Fatal(err)
	}
	control := gate.NewControl(gantry.NewIDs(time.Now, rand.Reader), time.Now)
	return a, control.WithControl(t.Context(), gantry.ControlKey{Boundary: gantry.AtArchive, Limiter: 7}), func() (rows []gantry.Control) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		control.Run(over, func(_ context.Context, list []gantry.Control) error { rows = append(rows, list...); return nil })
		return rows
	}
}

// TestExpectOrthanc asks a real archive about a study of two series as it comes in.
func TestExpectOrthanc(t *testing.T) {
	t.Parallel()
	o := dimsetest.Orthanc(t, dimsetest.Settings{DICOMweb: true})
	a, ctx, written := asked(t, o.URL+"/dicom-web/")
	one, two := dimsetest.NewStudy(t, 5, 32), dimsetest.NewStudy(t, 3, 32)
	series := [2]string{}
	for i, s := range []dimsetest.Study{one, two} {
		for _, file := range s.Files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(b, []byte("\x20\x00\x0e\x00UI"))
			series[i] = string(bytes.TrimRight(b[at+8:at+8+int(b[at+6])], "\x00"))
			if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte(s.UID), []byte(one.UID)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(study, of string, wantN int) {
		t.Helper()
		if n, known, err := a.Expect(ctx, study, of); err != nil || n != wantN || known != (wantN > 0) {
			t.Errorf("%d, %t, %v; want %d", n, known, err, wantN)
		}
	}
	want(one.UID, "", 0)
	want(one.UID, series[0], 0)
	o.Load(t, one.Files[0])
	want(one.UID, "", 1)
	want(one.UID, series[1], 0)
	for _, file := range slices.Concat(one.Files[1:], two.Files) {
		o.Load(t, file)
	}
	want(one.UID, "", 8)
	want(one.UID, series[0], 5)
	want(one.UID, series[1], 3)
	want("1.2.3", "", 0)
	failures := int32(0)
	for _, r := range written() {
		failures += r.Failures
	}
	if failures > 2 { // a series of a study that it does not know may be no resource
		t.Errorf("%d failures on record", failures)
	}
}

// match writes one match of a search.
func match(study, series, ofStudy, ofSeries string) string {
	var keys []string
	add := func(tag, vr, value string) {
		if value != "" {
			keys = append(keys, fmt.Sprintf(`%q:{"vr":%q,"Value":[%s]}`, tag, vr, value))
		}
	}
	add(tagStudy, "UI", study)
	add(tagSeries, "UI", series)
	add(tagOfStudy, "IS", ofStudy)
	add(tagOfSeries, "IS", ofSeries)
	return "{" + strings.Join(keys, ",") + "}"
}

// TestExpectAnswers reads the answers that archives give, right ones and others.
func TestExpectAnswers(t *testing.T) {
	t.Parallel()
	study, counted := `"1.2"`, match(`"1.2"`, "", "324", "")
	for name, c := range map[string]struct {
		studies, series string // answers; a number is a status alone
		of              string // the series that is asked about
		n               int
		kind            gantry.Kind
		code            gantry.Code
	}{
		"a number":                      {studies: "[" + counted + "]", n: 324},
		"a text":                        {studies: "[" + match(study, "", `"324 "`, "") + "]", n: 324},
		"none":                          {studies: "[]"},
		"nothing at all":                {studies: " "},
		"204":                           {studies: "204"},
		"another study":                 {studies: "[" + match(`"1.2.3"`, "", "5", "") + "]"},
		"all that it has":               {studies: "[" + match(`"1.3"`, "", "9", "") + "," + counted + "]", n: 324},
		"null":                          {studies: `[{"0020000D":{"vr":"UI","Value":["1.2"]},"00201208":{"vr":"IS","Value":[null]}}]`, series: "[]"},
		"no count, and series":          {studies: "[" + match(study, "", "", "") + "]", series: "[" + match("", `"1"`, "", "20") + "," + match("", `"2"`, "", `"4"`) + "]", n: 24},
		"no count, and series without":  {studies: "[" + match(study, "", "", "") + "]", series: "[" + match("", `"1"`, "", "20") + "," + match("", `"2"`, "", "") + "]"},
		"no count, and more series":     {studies: "[" + match(study, "", "", "") + "]", series: "299[" + match("", `"1"`, "", "20") + "]"},
		"a series":                      {series: "[" + match("", `"1.5"`, "", "20") + "]", of: "1.5", n: 20},
		"a series, of all":              {series: "[" + match("", `"1.4"`, "", "7") + "," + match("", `"1.5"`, "", "20") + "]", of: "1.5", n: 20},
		"no such resource, but studies": {series: "404", studies: "[]", of: "1.5"},
		"no such resource at all":       {series: "404", studies: "404", of: "1.5", kind: gantry.NotFound, code: CodeRefused},
		"no services":                   {studies: "404", kind: gantry.NotFound, code: CodeRefused},
		"zero":                          {studies: "[" + match(study, "", "0", "") + "]", series: "[]"},
		"below zero":                    {studies: "[" + match(study, "", "-1", "") + "]", series: "[]"},
		"half":                          {studies: "[" + match(study, "", "1.5", "") + "]", series: "[]"},
		"too many":                      {studies: "[" + match(study, "", "1e18", "") + "]", series: "[]"},
		"HTML":                          {studies: "<html>", kind: gantry.BadResponse, code: CodeMalformedAnswer},
		"an object":                     {studies: "{}", kind: gantry.BadResponse, code: CodeMalformedAnswer},
		"cut":                           {studies: "[" + counted, kind: gantry.BadResponse, code: CodeMalformedAnswer},
		"deep":                          {studies: strings.Repeat("[", 20000), kind: gantry.BadResponse, code: CodeMalformedAnswer},
		"long":                          {studies: "[" + strings.Repeat(" ", maxAnswer) + "]", kind: gantry.BadResponse, code: gantry.CodeTooLarge},
		"many":                          {studies: "[" + strings.Repeat("{},", maxMatches) + "{}]", kind: gantry.BadResponse, code: gantry.CodeTooLarge},
		"busy":                          {studies: "503", kind: gantry.Unavailable, code: CodeRefused},
		"broken":                        {studies: "500", kind: gantry.Transient, code: CodeRefused},
		"not allowed":                   {studies: "403", kind: gantry.Denied, code: CodeRefused},
		"refused":                       {studies: "400", kind: gantry.Permanent, code: CodeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var queries []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				queries = append(queries, r.URL.RequestURI())
				mu.Unlock()
				answer := c.studies
				if strings.HasSuffix(r.URL.Path, "/series") {
					answer = c.series
				}
				if body, ok := strings.CutPrefix(answer, "299"); ok {
					w.Header().Set("Warning", `299 archive: "There are 5 additional results that can be requested"`)
					answer = body
				}
				var status int
				if n, _ := fmt.Sscanf(answer, "%d", &status); n == 1 {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Content-Type", "application/dicom+json")
				w.Write([]byte(answer))
			}))
			defer s.Close()
			a, ctx, written := asked(t, s.URL+"/root")
			n, known, err := a.Expect(ctx, "1.2", c.of)
			if n != c.n || known != (c.n > 0) || (err == nil) != (c.code == "") || err != nil && (gantry.KindOf(err) != c.kind || gantry.CodeOf(err) != c.code) {
				t.Errorf("%d, %t, %v", n, known, err)
			}
			if err != nil && strings.Contains(err.Error(), "1.2") {
				t.Errorf("the error holds what was asked: %v", err)
			}
			want := "/root/studies?StudyInstanceUID=1.2&includefield=00201208"
			if c.of != "" {
				want = "/root/studies/1.2/series?SeriesInstanceUID=1.5&includefield=00201209"
			}
			if queries[0] != want {
				t.Errorf("asked %s", queries[0])
			}
			if rows := written(); len(rows) == 0 || gantry.KindOf(err) == gantry.Denied && rows[0].Kind != gantry.Denied {
				t.Errorf("on record: %+v", rows)
			}
		})
	}
}

// TestExpectUnreachable: time is bounded, a cancelled question is no failure of the archive, and no UID is no question.
func TestExpectUnreachable(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer s.Close()
	defer close(stuck)
	a, ctx, _ := asked(t, s.URL)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, _, err := a.Expect(short, "1.2", ""); gantry.KindOf(err) != gantry.Timeout {
		t.Errorf("a silent archive: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := a.Expect(gone, "1.2", ""); err == nil {
		t.Error("a question that nobody puts was answered")
	}
	for _, uids := range [][2]string{{"", ""}, {"1.2.*", ""}, {"1.2/../..", ""}, {"1.2", "1?"}, {"1.2&limit=1", ""}} {
		if _, _, err := a.Expect(ctx, uids[0], uids[1]); gantry.CodeOf(err) != gantry.CodeBadUID {
			t.Errorf("%q: %v", uids, err)
		}
	}
	if _, _, err := a.Expect(t.Context(), "1.2", ""); gantry.CodeOf(err) != gate.CodeNoRecord {
		t.Errorf("without a record: %v", err)
	}
}

// TestConfig lists the mistakes that a file may make.
func TestConfig(t *testing.T) {
	t.Parallel()
	for url, key := range map[string]string{
		"http://pacs.local:8042/dicom-web": "http://pacs.local:8042", "https://PACS.local:443/": "https://pacs.local", "http://[::1]:80": "http://::1",
	} {
		if c := (ArchiveConfig{URL: url}); len(c.Check()) != 0 || c.Target().Key() != key {
			t.Errorf("%s: %v, %s", url, c.Check(), c.Target().Key())
		}
	}
	for _, url := range []string{"", "pacs.local", "ftp://pacs", "http://", "http://u:p@pacs", "http://pacs/?a=b", "http://pacs/#x", "http://pacs/studies/", "http://pacs:0", "http://pacs:99999", "%"} {
		if len((ArchiveConfig{URL: url}).Check()) != 1 {
			t.Errorf("%q is taken", url)
		}
		if _, err := NewArchive(t.Context(), ArchiveConfig{URL: url}, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// FuzzMatches reads any answer without a panic, and never counts more than there can be.
func FuzzMatches(f *testing.F) {
	for _, s := range []string{"[]", "[" + match(`"1.2"`, `"1.5"`, "324", `"20"`) + "]", "[{}]", "{}", "[null]", `[{"0020000D":null}]`, `[{"00201208":{"Value":[1e300]}}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := parseMatches(body)
		if err != nil {
			if gantry.KindOf(err) != gantry.BadResponse {
				t.Error(err)
			}
			return
		}
		for _, tag := range []string{tagOfStudy, tagOfSeries} {
			if n, known := found.count(tagStudy, "1.2", tag); n < 0 || n > maxCount || known != (n > 0) {
				t.Errorf("%d, %t", n, known)
			}
			found.count("", "", tag)
		}
	})
}
