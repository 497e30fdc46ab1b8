package app_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// One bucket feeds three pipelines by name, tags, metadata, content type and what DICOM files say; what no rule takes, or
// none can be asked about, is on record with the reason, and its bytes are where they were.
func TestRoutesFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	ct, us, picture := study(t, 1)[0], ultrasound(), noise(30, [32]byte{3})
	d.putAs("in/echo/DOE^JANE 1.png", picture, "", "", nil)
	d.putAs("in/ct.dcm", ct, "", "site=north", nil)
	d.putAs("in/ct-south.dcm", ct, "", "site=south", nil)
	d.putAs("in/us.dcm", us, "", "site=north", nil)
	d.putAs("in/wards", noise(31, [32]byte{4}), "", "", map[string]string{"Ward": "7"})
	d.putAs("in/typed", noise(32, [32]byte{5}), "image/x-ours", "", nil)
	d.putAs("in/stray.png", noise(33, [32]byte{6}), "", "site=north", nil)
	d.putAs("in/broken.dcm", ct[:400], "", "site=north", nil)
	d.putAs("in/empty.dcm", nil, "", "site=north", nil)
	shared := r.shared(d.incoming(`{when: 'object.key startsWith "in/echo/" || object.metadata.ward == "7" || object.content_type == "image/x-ours"', to: echo},
		{when: 'object.tags.site == "north" && dicom.Modality == "CT"', to: ct}, {when: 'dicom.Modality in ["CT", "US"]', to: rest}`, ""))
	pipelines := []*gantry.Pipeline{r.branch("echo", s.URL+"/score", ""), r.branch("ct", s.URL+"/score", "priority: urgent"), r.branch("rest", s.URL+"/score", "")}
	want := map[string]string{"DOE^JANE 1.png": "echo", "wards": "echo", "typed": "echo", "ct.dcm": "ct", "ct-south.dcm": "rest", "us.dcm": "rest",
		"stray.png": "unmatched no_route", "broken.dcm": "unmatched truncated", "empty.dcm": "unmatched no_route"}
	r.servingRoutes(pipelines, shared, r.goesTo("incoming", want))
	if got := r.arrivals("incoming"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, x := range r.tasks() {
		if _, err := os.Stat(filepath.Join(r.out, x.Pipeline, x.ID, "_manifest.json")); err != nil {
			t.Errorf("no manifest of %s in its pipeline's folder", x.Pipeline)
		}
	}
	r.noNames("DOE^JANE")
	headers, copies := r.readsBefore()
	if headers != 5 || copies != 6 { // broken, three sound ones, the stray picture; what is empty is not asked for
		t.Errorf("%d headers were read and %d objects copied, on record", headers, copies)
	}
	if n := len(s.all()); n != 6 {
		t.Errorf("the service was asked %d times", n)
	}
}

// With match: all one arrival is a task in each pipeline whose rule holds, made in one commit, and its bytes are copied
// once. After a restart, and after the same object was put again, there is no second task.
func TestRoutesAll(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	for i := range 6 {
		d.put(fmt.Sprintf("in/%d.png", i), noise(30+i, [32]byte{byte(i)}))
	}
	shared := r.shared(d.incoming(`{to: every}, {when: 'object.name < "3"', to: low}, {when: 'object.name in ["0.png"]', to: zero}, {when: 'object.size > 0', to: low}`, "match: all, "))
	pipelines := []*gantry.Pipeline{r.branch("every", s.URL+"/score", ""), r.branch("low", s.URL+"/score", ""), r.branch("zero", s.URL+"/score", "priority: urgent")}
	want := map[string]string{}
	for i := range 6 {
		want[fmt.Sprintf("%d.png", i)] = "every low"
	}
	want["0.png"] = "every low zero"
	for range 2 {
		r.servingRoutes(pipelines, shared, r.goesTo("incoming", want))
		d.put("in/1.png", noise(31, [32]byte{1})) // the same bytes
		r.TTL = 2 * time.Second
	}
	if got := r.arrivals("incoming"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if _, copies := r.readsBefore(); copies != 6 {
		t.Errorf("%d objects were copied", copies)
	}
	ids := map[string]bool{}
	for _, x := range r.tasks() {
		ids[x.ID] = true
	}
	if len(ids) != 13 {
		t.Errorf("%d tasks", len(ids))
	}
}

// What the bucket keeps versions of is read there, by the tasks of every pipeline, also in a process that never saw the
// deployment file.
func TestRoutesInPlace(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	archive, sums := entries(t, 40, 150)
	d.put("in/a.zip", archive)
	shared := r.shared(d.incoming(`{to: one}, {to: two}`, "match: all, "))
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "extract: {archives: [zip]}"), r.branch("two", s.URL+"/score", "extract: {archives: [zip]}")}
	r.TTL, r.Grace = 600*time.Millisecond, 100*time.Millisecond
	r.servingRoutes(pipelines, shared, func() bool { return len(s.all()) >= 8 })
	worker := r.beside()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- worker.Work(ctx, nil) }()
	for r.arrivals("incoming")["a.zip"] != "one two" && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	<-done
	if got := r.arrivals("incoming"); got["a.zip"] != "one two" || r.copied() != 0 {
		t.Errorf("%v, %d copied\n%s", got, r.copied(), r.log.text())
	}
	for _, x := range s.all() {
		if !sums[x.sum] {
			t.Error("the service saw other bytes than those in the archive")
		}
	}
	for _, x := range r.tasks() {
		if m, _ := manifestOf(t, filepath.Join(r.out, x.Pipeline), x.ID); len(m.Items) != len(sums) {
			t.Errorf("%s: %d items", x.Pipeline, len(m.Items))
		}
	}
	if ok, _, _ := r.reads(); ok == 0 {
		t.Error("no read is on record")
	}
}

// What is turned away is not looked at again while the process runs, nor after a restart; under other rules it is.
func TestRoutesChange(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	d.put("in/a.png", noise(30, [32]byte{1}))
	d.put("in/b.png", noise(31, [32]byte{2}))
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
	narrow := r.shared(d.incoming(`{when: 'object.name == "a.png" && dicom.Modality == ""', to: one}`, ""))
	want := map[string]string{"a.png": "one", "b.png": "unmatched no_route"}
	for range 2 {
		r.servingRoutes(pipelines, narrow, r.goesTo("incoming", want))
		time.Sleep(200 * time.Millisecond)
	}
	if headers, copies := r.readsBefore(); headers != 2 || copies != 1 {
		t.Errorf("%d headers, %d copies", headers, copies)
	}
	want["b.png"] = "one"
	r.servingRoutes(pipelines, r.shared(d.incoming(`{to: one}`, "")), r.goesTo("incoming", want))
	if got := r.arrivals("incoming"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}

// A folder feeds pipelines too, by what is known of files. The state of a file that was turned away does not count any more
// when another one is taken.
func TestRoutesOfAFolder(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	in := t.TempDir()
	write := func(name string, body []byte) {
		if err := os.WriteFile(filepath.Join(in, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ct.dcm", study(t, 1)[0])
	write("us.dcm", ultrasound())
	write("a.png", noise(20, [32]byte{1}))
	source := fmt.Sprintf("  shelf: {kind: dir, path: %q, settle: 10ms, routes: [{when: 'dicom.Modality == \"CT\"', to: one}, {when: 'object.size > 2000 and object.name == \"a.png\"', to: two}]}\n", in)
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", ""), r.branch("two", s.URL+"/score", "")}
	r.servingRoutes(pipelines, r.shared(source), r.goesTo("shelf", map[string]string{"ct.dcm": "one", "us.dcm": "unmatched no_route", "a.png": "unmatched no_route"}))
	write("a.png", noise(60, [32]byte{2}))
	done := func() bool {
		n, superseded := 0, 0
		rows := r.Store.Pool().QueryRow(r.t.Context(), `select count(*) filter (where exists (select from task t where t.arrival = a.id and t.final_state = 5)),
			count(*) filter (where status = 1) from arrival a where name = 'a.png'`)
		return rows.Scan(&n, &superseded) == nil && n == 1 && superseded == 1
	}
	r.servingRoutes(pipelines, r.shared(source), done)
}

// A source that the pipeline has alone takes by a rule what becomes tasks, beside one that is shared and polls the same
// bucket: each makes its own task of an object.
func TestOwnSourceBesideShared(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	for i := range 4 {
		d.putAs(fmt.Sprintf("in/%d.png", i), noise(30+i, [32]byte{byte(i)}), "", fmt.Sprintf("odd=%t", i%2 == 1), nil)
	}
	own := fmt.Sprintf("sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, auth: gateway, when: 'object.tags.odd == \"true\"'}}%s",
		d.front, keysOfTheGateway)
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", own), r.branch("two", s.URL+"/score", "")}
	shared := r.shared(d.incoming(`{when: 'object.name != "3.png"', to: one}, {to: two}`, ""))
	ofShared := map[string]string{"0.png": "one", "1.png": "one", "2.png": "one", "3.png": "two"}
	ofOwn := map[string]string{"0.png": "unmatched no_route", "1.png": "one", "2.png": "unmatched no_route", "3.png": "one"}
	r.servingRoutes(pipelines, shared, func() bool { return r.goesTo("incoming", ofShared)() && r.goesTo("one/inbox", ofOwn)() })
	if n := len(r.tasks()); n != 6 {
		t.Errorf("%d tasks", n)
	}
}

// What a server refuses is told apart: tags that may not be read turn the object away; a server that is down, or
// credentials that it refuses altogether, leave it for later.
func TestRulesThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	asked := map[string]int{}
	d.wrong = func(_ int, w http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if !req.URL.Query().Has("tagging") {
			return false
		}
		d.mu.Lock()
		asked[req.URL.Path]++
		n := asked[req.URL.Path]
		d.mu.Unlock()
		switch {
		case strings.HasSuffix(req.URL.Path, "denied.png"):
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(`<Error><Code>AccessDenied</Code></Error>`))
		case n == 1 && strings.HasSuffix(req.URL.Path, "busy.png"):
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte(`<Error><Code>SlowDown</Code></Error>`))
		case n == 1 && strings.HasSuffix(req.URL.Path, "expired.png"):
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(`<Error><Code>ExpiredToken</Code></Error>`))
		default:
			return false
		}
		return true
	}
	for i, name := range []string{"denied", "busy", "expired", "bad"} {
		d.put("in/"+name+".png", noise(30+i, [32]byte{byte(i)}))
	}
	shared := r.shared(d.incoming(`{when: 'object.name == "bad.png" && 1 / (object.size - object.size) > 0', to: one}, {when: '"a" not in object.tags', to: one}`, ""))
	want := map[string]string{"denied.png": "unmatched tags_denied", "busy.png": "one", "expired.png": "one", "bad.png": "unmatched bad_expression"}
	r.servingRoutes([]*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}, shared, r.goesTo("incoming", want))
	if got := r.arrivals("incoming"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}

// A thousand objects, with the process stopped in between: each goes one way, once.
func TestThousandRouted(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	r.TTL = 2 * time.Second
	d := newDepot(t, env, false)
	want := map[string]string{}
	const objects = 1000
	for i := range objects {
		name := fmt.Sprintf("%04d.png", i)
		d.put("in/"+name, noise(4, [32]byte{byte(i), byte(i >> 8)}))
		switch {
		case strings.HasSuffix(name, "7.png"):
			want[name] = "seven"
		case i < 300:
			want[name] = "low"
		default:
			want[name] = "unmatched no_route"
		}
	}
	shared := r.shared(d.incoming(`{when: 'object.name matches "7[.]png$"', to: seven}, {when: 'object.name < "0300"', to: low}`, ""))
	pipelines := []*gantry.Pipeline{r.branch("seven", s.URL+"/score", ""), r.branch("low", s.URL+"/score", "")}
	stopAt := []int{150, 600}
	for _, n := range stopAt {
		r.servingRoutes(pipelines, shared, func() bool { return len(r.arrivals("incoming")) >= n })
	}
	r.servingRoutes(pipelines, shared, r.goesTo("incoming", want))
	if got := r.arrivals("incoming"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("not each went its way")
	}
	if n := len(r.tasks()); n != 370 {
		t.Errorf("%d tasks", n)
	}
	var calls []string
	for _, x := range s.all() {
		calls = append(calls, x.key)
	}
	slices.Sort(calls)
	if n := len(slices.Compact(calls)); n != 370 {
		t.Errorf("%d parts were sent", n)
	}
}
