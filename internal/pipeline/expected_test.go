package pipeline

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestExpect: which archive is asked, by what rules, and that it is an end of its own. A version that was read back asks the same.
func TestExpect(t *testing.T) {
	t.Parallel()
	web := gantry.Endpoint{Kind: "dicomweb", Config: &webArchive{URL: "http://pacs.local/dicom-web"}}
	signed := web
	signed.Auth = &gantry.Credential{Name: "pacs", Kind: "bearer", Token: "${env:PACS}"}
	for group, want := range map[string]gantry.Collect{
		`{by: study, expect: {kind: dicomweb, url: "http://pacs.local/dicom-web"}}`: {By: "study", Cap: time.Hour, Late: "rerun",
			Expect: &gantry.Expect{Endpoint: web, Steady: time.Second, Missing: "wait", Timeout: 10 * time.Second, AtOnce: 4}},
		`{by: series, quiet: 10s, cap: 1m, late: append, expect: {kind: dicomweb, url: "http://pacs.local/dicom-web", auth: pacs, steady: 5m, missing: close, timeout: 2s, at_once: 1}}`: {
			By: "series", Quiet: 10 * time.Second, Cap: time.Minute, Late: "append",
			Expect: &gantry.Expect{Endpoint: signed, Steady: 5 * time.Minute, Missing: "close", Timeout: 2 * time.Second, AtOnce: 1}},
		`{by: study, expect: {kind: dicom, host: pacs.local}}`: {By: "study", Cap: time.Hour, Late: "rerun",
			Expect: &gantry.Expect{Endpoint: gantry.Endpoint{Kind: "dicom", Config: &wireArchive{Host: "pacs.local"}}, Steady: time.Second, Missing: "wait", Timeout: 10 * time.Second, AtOnce: 4}},
	} {
		src := small + "group: " + group + "\n"
		if want.Expect.Auth != nil {
			src += `auth: {pacs: {kind: bearer, token: "${env:PACS}"}}` + "\n"
		}
		p, err := Parse("test.yaml", []byte(src), fake{}, variables())
		if err != nil {
			t.Errorf("%s: %v", group, err)
			continue
		}
		again, err := ParseResolved(p.Resolved, fake{})
		if err != nil {
			t.Errorf("%s: its version: %v", group, err)
			continue
		}
		for _, p := range []*gantry.Pipeline{p, again} {
			if diff := cmp.Diff(&want, p.Collect); diff != "" {
				t.Errorf("%s (-want +got):\n%s", group, diff)
			}
		}
	}
}

// TestExpectAuth: a credential for an archive that is not asked over HTTP is a mistake, and one that an archive uses is used.
func TestExpectAuth(t *testing.T) {
	t.Parallel()
	wantMistake(t, small+"group: {by: study, expect: {kind: dicom, host: pacs.local, auth: pacs}}\nauth: {pacs: {kind: bearer, token: \"${env:PACS}\"}}\n",
		"5:60: auth: it is for requests over HTTP, and an archive of kind dicom has none")
	wantMistake(t, small+"group: {by: study, quiet: 1s}\nauth: {pacs: {kind: bearer, token: \"${env:PACS}\"}}\n", `credential "pacs" is used by nothing`)
}

// TestExpectVersion: whom a pipeline asks, and what it makes of the answers, is part of its version.
func TestExpectVersion(t *testing.T) {
	t.Parallel()
	seen := map[gantry.Digest]string{}
	for _, more := range []string{"", ", steady: 2s", ", missing: close", ", at_once: 2", ", timeout: 1s"} {
		p, err := Parse("test.yaml", []byte(small+`group: {by: study, expect: {kind: dicomweb, url: "http://pacs.local"`+more+"}}\n"), fake{}, variables())
		if err != nil {
			t.Fatal(err)
		}
		if other, known := seen[p.Version]; known {
			t.Errorf("%q has the version of %q", more, other)
		}
		seen[p.Version] = more
	}
}
