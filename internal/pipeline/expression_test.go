package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/expr-lang/expr/vm"
	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// threeStages are the steps that most tests stand at the end of.
var threeStages = []step{{"quality", []string{"qa"}}, {"first-look", []string{"lvef", "seg"}}, {"report", []string{"reporter"}}}

// jsonValue decodes as the engine does.
func jsonValue(t testing.TB, src string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(src), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func sampleVars(t testing.TB) map[string]any {
	result := `{"score": 0.5, "label": "clear", "flag": true, "zero": 0, "nothing": null, "list": [1, 2, 3], "texts": ["a", "b"],
		"found": [{"size": 3, "name": "x"}, {"size": 8, "name": "y"}], "empty": [], "in": {"deep": {"er": 7}}, "text": "0.5", "kept-out": 1}`
	return map[string]any{
		"dicom":   map[string]string{"Modality": "US", "SliceThickness": " 2.5 ", "PatientName": "Private^Name"},
		"item":    map[string]any{"media": "image/png", "size": int64(5000), "frame": 4, "index": 0},
		"result":  jsonValue(t, result),
		"results": map[string]any{"reporter": jsonValue(t, result)},
		"stages": map[string]any{
			"quality": map[string]any{"qa": []any{map[string]any{"ok": true, "result": map[string]any{"score": 0.9}}}},
			"first-look": map[string]any{
				"lvef": []any{map[string]any{"ok": true}, map[string]any{"ok": true}},
				"seg":  []any{map[string]any{"ok": true}, map[string]any{"ok": false}},
			},
		},
	}
}

// holds compiles and evaluates at the end of threeStages.
func holds(t testing.TB, src string, vars map[string]any) (bool, error) {
	t.Helper()
	c, mistakes := compile(src, stageShape(threeStages, true))
	if len(mistakes) > 0 {
		t.Fatalf("%s: %v", src, mistakes)
	}
	if c.String() != src {
		t.Errorf("%s reads %s", src, c)
	}
	return c.Holds(vars)
}

// TestHolds gives the meaning of the operators, above all of what is missing.
func TestHolds(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		`result.score > 0.4`: true, `result.score > 0.5`: false, `result.score >= 0.5`: true, `0.4 < result.score`: true,
		`result.score == 0.5`: true, `result.score != 0.5`: false, `result.zero == 0`: true,
		`result.label == "clear"`: true, `result.label in ["clear", "unsure"]`: true, `result.label not in ["clear"]`: false,
		`result.flag`: true, `not result.flag`: false, `result.flag and result.score < 1`: true, `result.absent or result.flag`: true,
		// what is missing
		`result.absent > 0.4`: false, `result.absent <= 0.4`: false, `result.absent == nil`: true, `result.absent == 0`: false,
		`result.absent != 0`: true, `result.absent`: false, `not result.absent`: true, `result.absent.deeper.still > 1`: false,
		`result.score.deeper == nil`: true, `result.nothing == nil`: true, `result.list[9] == nil`: true, `result.list["a"] == nil`: true,
		`result.absent + 1 > 0`: false, `-result.absent < 1`: false, `len(result.absent) == nil`: true, `result.absent in [1]`: false,
		`1 in result.absent`: false, `result.absent contains "a"`: false, `result.absent matches "a"`: false, `mean(result.empty) > 0`: false,
		`any(result.absent ?? [], true)`: false, `(result.absent ?? 7) == 7`: true, `lower(result.absent) == "a"`: false, `max(result.absent) > 1`: false,
		// lists and objects
		`result.list[0] == 1`: true, `result.list[-1] == 3`: true, `len(result.list) == 3`: true, `sum(result.list) == 6`: true,
		`sum(result.found, .size) == 11`: true, `mean(result.list) == 2`: true, `min(result.list) == 1 and max(result.list) == 3`: true,
		`any(result.found, .size > 5)`: true, `all(result.found, .size > 5)`: false, `none(result.found, .size > 9)`: true, `one(result.found, .size > 5)`: true,
		`count(result.found, .name == "x") == 1`: true, `len(filter(result.list, # > 1)) == 2`: true, `find(result.found, .size > 5).name == "y"`: true,
		`any(map(result.list, # * 2), # == 6)`: true, `2 in result.list`: true, `"b" in result.texts`: true,
		`"label" in result`: true, `"absent" in result`: false, `result["kept-out"] == 1`: true, `result.in.deep.er == 7`: true, `result?.in?.deep?.er == 7`: true,
		`all(result.empty, .x)`: true,
		// texts and numbers
		`dicom.Modality == "US"`: true, `dicom.StudyDate == ""`: true, `"Modality" in dicom`: true, `dicom.Modality matches "^U"`: true,
		`dicom.Modality startsWith "U" and dicom.Modality endsWith "S"`: true, `number(dicom.SliceThickness) < 3`: true, `number(dicom.StudyDate) < 3`: false,
		`number(result.text) == 0.5`: true, `lower(dicom.Modality) == "us"`: true, `upper(result.label) == "CLEAR"`: true, `trim(dicom.SliceThickness) == "2.5"`: true,
		`item.size / 2 > 2499 and item.size % 2 == 0`: true, `item.frame * 2 - 1 == 7`: true, `abs(-3) == 3`: true, `round(2.6) == 3`: true, `result.text == 0.5`: false,
		`"a" < "b"`: true, `result.score > 1 ? false : true`: true,
		// other stages
		`all(stages["first-look"].lvef, .ok)`: true, `all(stages["first-look"].seg, .ok)`: false, `stages.quality.qa[0].result.score > 0.8`: true,
		`stages.quality.qa[1].ok`: false, `results.reporter.score > 0.4`: true, `count(stages["first-look"].seg, .ok) >= 1`: true,
	} {
		got, err := holds(t, src, sampleVars(t))
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", src, got, err)
		}
	}
}

// TestHoldsNothing: variables may be absent altogether.
func TestHoldsNothing(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		`dicom.Modality == ""`: true, `result.score > 1`: false, `results.reporter.a.b == nil`: true, `item.size > 1`: false, `stages.quality.qa[0].ok`: false,
	} {
		for _, vars := range []map[string]any{nil, {"dicom": nil, "result": nil}} {
			if got, err := holds(t, src, vars); err != nil || got != want {
				t.Errorf("%s: %v, %v", src, got, err)
			}
		}
	}
}

// TestHoldsErrors wants Illegal, bad_expression and not a word of the values.
func TestHoldsErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]error{
		`result.zero`: errNotBool, `result.label`: errNotBool, `not result.score`: errNotBool, `result.score or true`: errNotBool,
		`all(result.list, #)`: errNotBool, `result.zero ? true : false`: errNotBool,
		`result.label > 5`: errOrder, `result.flag < result.flag`: errOrder, `result.list > 1`: errOrder,
		`result.list == result.list`: errDeep, `result.in in [result.in]`: errDeep,
		`result.label + 1 == 2`: errNoNumber, `-result.label == 1`: errNoNumber, `sum(result.texts) == 1`: errNoNumber, `abs(result.label) == 1`: errNoNumber,
		`any(result.absent, true)`: errNoList, `any(result.label, true)`: errNoList, `1 in result.score`: errNoList, `sum(result.score) == 1`: errNoList, `len(result.score) == 1`: errNoList,
		`result.score contains "a"`: errNoText, `lower(result.score) == ""`: errNoText, `result.list matches "a"`: errNoText,
		`1 / result.zero == 1`: errZero, `1 % result.zero == 1`: errZero,
	} {
		got, err := holds(t, src, sampleVars(t))
		if got || gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadExpression || err.Error() != "evaluate expression: "+want.Error() {
			t.Errorf("%s: %v, %v", src, got, err)
		}
	}
}

// TestBounded tries to make much from little: every evaluation ends soon, in little memory.
func TestBounded(t *testing.T) {
	t.Parallel()
	many := make([]any, 20_000)
	for i := range many {
		many[i] = float64(i)
	}
	vars := map[string]any{"result": map[string]any{"many": many, "long": strings.Repeat("a", 1<<20)}}
	for _, src := range []string{
		`any(result.many, any(result.many, any(result.many, # == -1)))`,
		`all(result.many, # not in result.many or true)`,
		`any(map(result.many, map(result.many, map(result.many, #))), false)`,
		`all(result.many, sum(result.many) > 0)`,
		`all(result.many, result.long contains "b" or true)`,
		`all(result.many, lower(result.long) == "" or true)`,
	} {
		began := time.Now()
		_, err := holds(t, src, vars)
		if took := time.Since(began); took > 5*time.Second || err == nil || !strings.Contains(err.Error(), errSteps.Error()) {
			t.Errorf("%s took %v: %v", src, took, err)
		}
	}
	// A control: without the count the evaluation goes on for as long as it takes.
	c, _ := compile(`any(result.many, any(result.many, # == -1))`, stageShape(threeStages, true))
	thousand := map[string]any{"result": map[string]any{"many": many[:1000]}}
	if _, err := c.Holds(thousand); err == nil {
		t.Error("a million elements are within the limit")
	}
	thousand[runName] = &run{steps: -1 << 40}
	machine := vm.VM{}
	if out, err := machine.Run(c.program, thousand); err != nil || out != false {
		t.Errorf("without the limit: %v, %v", out, err)
	}
	// Another: the same over less is no mistake.
	vars["result"].(map[string]any)["many"] = many[:30]
	if _, err := holds(t, `any(result.many, any(result.many, any(result.many, # == -1)))`, vars); err != nil {
		t.Error(err)
	}
}

// TestRefused: what is not of the language is a mistake at its own place.
func TestRefused(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`now() == 1`: `0: unknown name "now"`, `repeat("a", 9) == ""`: `0: unknown name "repeat"`, `result == 1..5`: `11: the operator .. is not`,
		`2 ** 9 > 1`: `2: the operator ** is not`, `let a = 1; a > 0`: `4: expressions here have no variables of their own`, `result[1:2] == nil`: `expressions here have no`,
		`{"a": 1} == nil`: `expressions here have no`, `$env == nil`: `0: unknown name "$env"`, `$run == nil`: `0: unknown name "$run"`, `$get(1, 2) == nil`: `unknown name "$get"`,
		`result.f() == 1`: `only functions are called`, `result.a matches result.b`: `24: what a text must match`, `result.a matches "("`: `missing closing )`,
		`"a"`: `0: it gives text, not true or false`, `1`: `0: it gives number, not true or false`, `1 +`: `2: it ends too early`, `(`: `it ends too early`,
		`item.siz > 1`: `5: item has no "siz" (did you mean "size"?)`, `item.media > 1`: `11: invalid operation: > (mismatched types text and number)`,
		`dicom.modality == ""`: `6: "modality" is no DICOM keyword (did you mean "Modality"?)`, `reslt.score > 1`: `0: unknown name "reslt" (did you mean "result"?)`,
		`stages.first == nil`: `stages has no "first"`, `stages["first-look"].lvf == nil`: `21: stages["first-look"] has no "lvf" (did you mean "lvef"?)`,
		`stages.report.reporter[0].ok`: `7: stages has no "report"; it speaks of earlier stages only`, `any(stages.quality.qa, .k)`: `no field "k"`,
		`stages.quality.qa.ok`: `list elements can only be selected using an integer (got text)`, `stages.quality.qa[0].rslt == 1`: `21: stages.quality.qa[] has no "rslt" (did you mean "result"?)`,
		`len()`: `not enough arguments`, `len(1, 2) == 1`: `too many arguments`, `object.size > 1`: `unknown name "object"`, `result = 1`: `7: unexpected token`,
		`any(result.a, {let b = 1; b > 0})`: `no variables of their own`, `result.a; true`: `expressions here`, `all([1], #acc == 1)`: `unknown name "#acc"`, `all([1], #index == 1)`: `unknown name "#index"`,
	} {
		c, found := compile(src, stageShape(threeStages, true))
		text := ""
		for _, m := range found {
			text += fmt.Sprintf("%d: %s\n", m.at, m.text)
		}
		if c != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", src, text, want)
		}
	}
	for what, src := range map[string]string{"nodes": "1 == 1" + strings.Repeat(" and 1 == 1", 150), "depth": strings.Repeat("(", 1000) + "1 == 1" + strings.Repeat(")", 999)} {
		if c, found := compile(src, taskShape()); c != nil || len(found) == 0 {
			t.Errorf("too many %s: no mistake", what)
		}
	}
}

// TestKnows: the fields know what they should, and say so.
func TestKnows(t *testing.T) {
	t.Parallel()
	for src, fields := range map[string]string{
		`object.size > 5 and object.media == "image/png" and object.source == "in" and items.count > 3`: "task",
		`dicom.Modality == "US"`: "task when keep_if", `item.index == 0`: "when keep_if", `result.score > 0.4`: "keep_if", `results.reporter == 1`: "keep_if",
		`all(stages.quality.qa, .ok)`: "when keep_if",
	} {
		for field, env := range map[string]shape{"task": taskShape(), "when": stageShape(threeStages, false), "keep_if": stageShape(threeStages, true)} {
			c, _ := compile(src, env)
			if want := strings.Contains(fields, field); (c != nil) != want {
				t.Errorf("%s in %s: %v", src, field, c != nil)
			}
		}
	}
	p := mustParse(t, full, "ROOT", "/mnt/x", "ROUTE", "v1")
	fields := Variables(p)
	var paths []string
	for _, f := range fields {
		paths = append(paths, f.Path)
	}
	if diff := cmp.Diff([]string{"when", "stages.find.when", "stages.find.keep_if", "stages.again.when", "stages.again.keep_if", "stages.side.when",
		"stages.side.keep_if", "stages.last.when", "stages.last.keep_if", "priority", "sources.abroad.when", "sources.inbox.when"}, paths); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, v := range fields[6].Variables {
		names = append(names, v.Name)
		if v.Doc == "" || v.Type == "" {
			t.Errorf("%+v", v)
		}
	}
	if diff := cmp.Diff([]string{"dicom.<Keyword>", "item.frame", "item.index", "item.media", "item.size", "results.finder", "results.other",
		"stages.again.other", "stages.again.other[0].ok", "stages.again.other[0].result", "stages.find.finder", "stages.find.finder[0].ok", "stages.find.finder[0].result"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestKeywords holds the list of keywords to the data dictionary.
func TestKeywords(t *testing.T) {
	t.Parallel()
	all := keywords()
	if len(all) < 5000 {
		t.Fatalf("%d keywords", len(all))
	}
	for i := 0; i < len(all); i += 101 {
		if info, err := tag.FindByKeyword(all[i]); err != nil || info.Keyword != all[i] {
			t.Errorf("%s: %v", all[i], err)
		}
	}
	for _, name := range []string{"Modality", "PatientID", "NumberOfFrames", "StudyInstanceUID", "SeriesDescription", "BodyPartExamined", "ImageType"} {
		if !dicomShape.has(name) {
			t.Errorf("%s is missing", name)
		}
	}
	if dicomShape.has("") || dicomShape.has("Modality\nPatientID") || dicomShape.has("Patient") {
		t.Error("knows what is no keyword")
	}
}

// TestTogether evaluates one condition many times at once.
func TestTogether(t *testing.T) {
	t.Parallel()
	c, _ := compile(`sum(result.list) > 5 and any(result.found, .size > 5)`, stageShape(threeStages, true))
	vars := sampleVars(t)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 200 {
				if ok, err := c.Holds(vars); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		})
	}
	g.Wait()
}

// FuzzExpression wants no panic, an end in bounded time, mistakes inside of the text, and errors that
// keep values to themselves.
func FuzzExpression(f *testing.F) {
	for _, src := range []string{
		`result.score > 0.4`, `all(stages.quality.qa, .ok)`, `dicom.Modality == "US"`, `sum(result.found, .size) / 2 % 3 > 1 ? true : false`, `result.list[-1] in [1, 2]`,
		`"a" matches "^[a-z]+$" and not (result?.a ?? true)`, `let a = 1; a`, `map(result.list, # + #)`, `$env`, `1..9`, `{"a": 1}`, "`raw`", `number(dicom.SliceThickness) < 3`, `result | len() > 1`,
		`find(result.found, .size > 5).name == "y"`, `b"x" == nil`, `0x1F == 1_000e3`, `"\u{1F600}" == '\''`, `/* c */ true // d`, `if true { false } else { true }`, `result.list[0:1]`, `get(result, "a")`,
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > maxExpression {
			return
		}
		began := time.Now()
		watchdog := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("%q does not end", src)) })
		defer watchdog.Stop()
		c, found := compile(src, stageShape(threeStages, true))
		if (c == nil) != (len(found) > 0) {
			t.Fatalf("%v and %v", c, found)
		}
		for _, m := range found {
			if m.at < 0 || m.at > len([]rune(src))+1 || m.text == "" {
				t.Fatalf("%+v", m)
			}
		}
		if c == nil {
			return
		}
		for _, vars := range []map[string]any{nil, sampleVars(t), {"result": "Private^Name", "results": 5, "stages": []any{1}, "dicom": map[string]string{}, "item": true}} {
			_, err := c.Holds(vars)
			if err != nil && (gantry.CodeOf(err) != CodeBadExpression || strings.Contains(err.Error(), "Private")) {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}
