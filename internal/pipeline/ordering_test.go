package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestRankings(t *testing.T) {
	t.Parallel()
	vars := map[string]any{"dicom": map[string]string{"Modality": "US", "PatientAge": "007Y", "SeriesNumber": "3"},
		"object": map[string]any{"size": int64(100), "source": "er"}, "items": map[string]any{"count": 12}}
	for src, want := range map[string]struct {
		priority int16
		ok       bool
		err      bool
	}{
		`dicom.Modality == "US" ? "urgent" : "normal"`:           {1, true, false},
		`dicom.Modality == "CT" ? "urgent" : "offpeak"`:          {8, true, false},
		`object.source == "er" ? 0 : items.count > 100 ? 9 : 5`:  {0, true, false},
		`object.source == "ward" ? 0 : items.count > 10 ? 9 : 5`: {9, true, false},
		`number(dicom.SeriesNumber)`:                             {3, true, false},
		`number(dicom.SeriesNumber) + 4`:                         {7, true, false},
		`number(dicom.StudyID)`:                                  {0, false, false}, // nothing
		`dicom.StudyID`:                                          {0, false, false}, // empty
		`dicom.Modality`:                                         {0, false, true},
		`number(dicom.SeriesNumber) / 2`:                         {0, false, true},
		`number(dicom.SeriesNumber) - 4`:                         {0, false, true},
		`items.count`:                                            {0, false, true},
		`items.count / 0`:                                        {0, false, true},
		`dicom.Modality startsWith "U" and items.count > 5 ? lower("URGENT") : 5`:  {1, true, false},
		`dicom.Modality in ["US", "XA"] ? "urgent" : object.size > 50 ? 7 : nil`:   {1, true, false},
		`dicom.Modality in ["CT", "XA"] ? "urgent" : object.size > 5000 ? 7 : nil`: {0, false, false},
	} {
		r, found := compileRanking(src, taskShape())
		if len(found) > 0 {
			t.Errorf("%s: %v", src, found)
			continue
		}
		p, ok, err := r.Of(vars)
		if p != want.priority || ok != want.ok || (err != nil) != want.err || err != nil && gantry.CodeOf(err) != CodeBadExpression {
			t.Errorf("%s: %d, %t, %v", src, p, ok, err)
		}
		if r.String() != src {
			t.Errorf("%s is written %s", src, r)
		}
	}
}

func TestBadRankings(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`dicom.Modalty == "US" ? "urgent" : "normal"`: `"Modalty" is no DICOM keyword`, `dicom.Modality == "US" ? "high" : "normal"`: `25: "high" is not one of`,
		`items.count > 5 ? 10 : 5`: "18: 10 is not between 0 and 9", `items.count > 5`: "it gives true or false", `[1, 2]`: "it gives list, not",
		`items.count > 5 ? true : 5`: "it gives true or false", `result.score > 1 ? 1 : 2`: `unknown name "result"`, `now() > 5 ? 1 : 2`: "unknown name",
		`items.count > 5 ? 1`: "", `let a = 1; a`: "no variables of their own", `object`: "it gives object",
	} {
		r, found := compileRanking(src, taskShape())
		text := ""
		for _, m := range found {
			text += strings.TrimSpace(string(rune('0'+m.at/10))+string(rune('0'+m.at%10))) + ": " + m.text + "\n"
		}
		if r != nil || len(found) == 0 || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", src, text, want)
		}
	}
}

const ordered = small + `priority: 'dicom.Modality == "US" ? "urgent" : "offpeak"'
order: finish_first
offpeak: [mon-fri 22:00-06:00 Europe/Berlin, "sat,sun 00:00-24:00 Europe/Berlin"]
`

// TestOrder: what a file says of the order of work is read, written and read again, and changes no version.
func TestOrder(t *testing.T) {
	t.Parallel()
	plain, p := mustParse(t, small), mustParse(t, ordered)
	if p.Version != plain.Version {
		t.Error("the order of work changes the version")
	}
	if p.Priority != gantry.PriorityNormal || p.Order.Ranking == nil || !p.Order.FinishFirst || len(p.Order.OffPeak) != 2 {
		t.Errorf("priority %d, %+v", p.Priority, p.Order)
	}
	if got := plain.Order; got.Ranking != nil || got.FinishFirst || got.OffPeak != nil || FormatOrder(got) != "{}" {
		t.Errorf("a file that says nothing has the order %s", FormatOrder(got))
	}
	text := FormatOrder(p.Order)
	again, err := ParseOrder(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, FormatOrder(again)); diff != "" || again.Ranking.String() != p.Order.Ranking.String() || !again.FinishFirst {
		t.Errorf("%s is read as %+v\n%s", text, again, diff)
	}
	if none, err := ParseOrder(""); err != nil || none.Ranking != nil || none.FinishFirst {
		t.Errorf("no order is %+v (%v)", none, err)
	}
	for _, bad := range []string{`{`, `[]`, `{"later": 1}`, `{"priority": "now()"}`, `{"priority": "a b c"}`, `{"offpeak": ["x"]}`} {
		if _, err := ParseOrder(bad); err == nil {
			t.Errorf("%s is an order", bad)
		}
	}
	if err := validate(t, compiled(t, fake{}), []byte(ordered)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	one := mustParse(t, small+"offpeak: 22:00-06:00 UTC\npriority: offpeak\n")
	if one.Priority != gantry.PriorityOffPeak || one.Order.OffPeak.String() != "sun,mon,tue,wed,thu,fri,sat 22:00-06:00 UTC" {
		t.Errorf("%d, %s", one.Priority, one.Order.OffPeak)
	}
}

// FuzzOrder reads what stands in the database: whatever does, it must not panic, and what is read is written alike for
// good and can be asked.
func FuzzOrder(f *testing.F) {
	f.Add(`{"priority":"dicom.Modality == \"US\" ? \"urgent\" : 7","order":"finish_first","offpeak":["mon-fri 22:00-06:00 Europe/Berlin"]}`)
	f.Add(`{"priority":"number(dicom.SeriesNumber) % 10"}`)
	f.Add(`{"offpeak":"22:00-06:00 UTC"}`)
	f.Add(ordered)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseOrder(text)
		if err != nil {
			return
		}
		written := FormatOrder(o)
		again, err := ParseOrder(written)
		if err != nil || FormatOrder(again) != written {
			t.Fatalf("%q is written %s: %v", text, written, err)
		}
		if o.Ranking == nil {
			return
		}
		p, ok, err := o.Ranking.Of(map[string]any{"dicom": map[string]string{"Modality": "US", "SeriesNumber": "3"}, "items": map[string]any{"count": 3},
			"object": map[string]any{"size": int64(9), "media": "image/png", "source": "in"}})
		if ok && (p < 0 || p > 9) || !ok && p != 0 || ok && err != nil {
			t.Errorf("%s: %d, %t, %v", o.Ranking, p, ok, err)
		}
	})
}
