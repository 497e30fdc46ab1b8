package pipeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestFactsIn asks for what a rule speaks of and no more, but for everything where that cannot be told.
func TestFactsIn(t *testing.T) {
	t.Parallel()
	every := gantry.FactHead | gantry.FactTags | gantry.FactHeader
	for src, want := range map[string]gantry.Facts{
		`true`: 0,
		`object.key startsWith "a" && object["name"] endsWith ".dcm" && object.size > 3 && object.source == "x"`: 0,
		`object.content_type == "application/dicom"`:                                                             gantry.FactHead,
		`"site" in object.metadata or object.metadata["x-y"] == "1"`:                                             gantry.FactHead,
		`object.tags.site == "north"`:                                                                            gantry.FactTags,
		`object?.tags["site"] == "north"`:                                                                        gantry.FactTags,
		`dicom.Modality in ["CT", "MR"]`:                                                                         gantry.FactHeader,
		`number(dicom.Rows) > 3 and object.tags.a != object.metadata["b"]`:                                       every,
		`"tags" in object`: every,
		`object[object.key == "a" ? "tags" : "metadata"]["x"] == "1"`: every,
	} {
		if _, mistakes := compile(src, arrivalShape("s3", every)); len(mistakes) > 0 {
			t.Errorf("%s: %v", src, mistakes)
			continue
		}
		if got := factsIn(src, every); got != want {
			t.Errorf("%s: facts %03b, want %03b", src, got, want)
		}
	}
}

// TestRuleHolds: what is missing holds nothing, and is no error.
func TestRuleHolds(t *testing.T) {
	t.Parallel()
	vars := map[string]any{"object": map[string]any{"key": "echo/A.dcm", "name": "A.dcm", "size": int64(7), "source": "incoming", "content_type": "",
		"metadata": map[string]any{}, "tags": map[string]any{"site": "north", "x-y": "z"}}, "dicom": map[string]string{"Modality": "CT"}}
	for src, want := range map[string]bool{
		`object.tags.site == "north" && dicom.Modality == "CT"`: true, `object.tags["x-y"] == "z"`: true, `object.tags.other == "north"`: false,
		`object.tags.other != "north"`: true, `object.metadata.a startsWith "x"`: false, `"site" in object.tags`: true, `"other" in object.tags`: false,
		`object.key matches "^echo/.*[.]dcm$"`: true, `object.size in [6, 7]`: true, `dicom.PatientID == ""`: true, `lower(object.name) == "a.dcm"`: true,
		`object.content_type == ""`: true, `number(object.tags.site) > 3`: false,
	} {
		c, mistakes := compile(src, arrivalShape("s3", gantry.FactHead|gantry.FactTags|gantry.FactHeader))
		if len(mistakes) > 0 {
			t.Errorf("%s: %v", src, mistakes)
			continue
		}
		if got, err := c.Holds(vars); err != nil || got != want {
			t.Errorf("%s: %t, %v", src, got, err)
		}
	}
	c, _ := compile(`dicom.Modality == "CT"`, arrivalShape("dir", gantry.FactHeader))
	if got, err := c.Holds(map[string]any{"object": map[string]any{}}); got || err != nil {
		t.Errorf("no DICOM file: %t, %v", got, err)
	}
}

// TestSourceWhen: a source of a pipeline has a rule of the same kind, which is part of the version.
func TestSourceWhen(t *testing.T) {
	t.Parallel()
	with := func(when string) string {
		return strings.Replace(small, "name: small", "name: small\nsources:\n  bucket: {kind: s3, bucket: abc"+when+"}\n  api: {kind: http}", 1)
	}
	parse := func(src string) *gantry.Pipeline {
		p, err := Parse("p.yaml", []byte(src), all.Drivers(), variables())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, bare := parse(with(`, when: 'object.tags.a == "b"'`)), parse(with(""))
	again, err := ParseResolved(p.Resolved, all.Drivers())
	if err != nil {
		t.Fatal(err)
	}
	if p.Version == bare.Version {
		t.Error("the rule is no part of the version")
	}
	for _, p := range []*gantry.Pipeline{p, again} {
		i := slices.IndexFunc(p.Sources, func(e gantry.Endpoint) bool { return e.Name == "bucket" })
		if w := p.Sources[i].When; w == nil || w.Facts() != gantry.FactTags || w.String() != `object.tags.a == "b"` || p.Sources[1-i].When != nil {
			t.Errorf("rule %v", w)
		}
	}
	for src, want := range map[string]string{
		with(`, when: 'object.tag.a == "b"'`):                                  `when: object has no "tag" (did you mean "tags"?)`,
		strings.Replace(with(""), "kind: http", "kind: http, when: 'true'", 1): `when: nothing is known of an upload before it is there; the when of the pipeline is asked later`,
		small + "sinks: {x: {kind: dir, path: x, when: 'true'}}\n":             `unknown key "when"`,
	} {
		if _, err := Parse("p.yaml", []byte(src), all.Drivers(), variables()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	var names []string
	for _, f := range Variables(p) {
		if f.Path == "sources.bucket.when" {
			for _, v := range f.Variables {
				names = append(names, v.Name)
			}
		}
		if f.Path == "sources.api.when" {
			t.Error("an upload has a rule")
		}
	}
	want := "dicom.<Keyword> object.content_type object.key object.metadata.<name> object.name object.size object.source object.tags.<name>"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("variables %s", got)
	}
}
