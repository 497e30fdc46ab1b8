package app_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// present is the ETag of the object that is there; empty: there is none.
func (d *depot) present(key string) string {
	out, err := d.HeadObject(d.t.Context(), &s3.HeadObjectInput{Bucket: aws.String("inbox"), Key: &key})
	if err != nil {
		return ""
	}
	return strings.Trim(aws.ToString(out.ETag), `"`)
}

// ended tells whether there are so many tasks, all done, or too many, and so many former versions on record, or more: the
// gateway gives one another time when it comes to light.
func (r *rig) ended(tasks, formers int) bool {
	r.t.Helper()
	if n := r.count(`select count(*) from task`); n > tasks {
		r.t.Errorf("%d tasks, want %d", n, tasks)
		return true
	}
	return r.count(`select count(*) from task where final_state = 5`) == tasks &&
		r.count(`select count(*) from arrival where reason = 'former_version' and status = 1`) >= formers
}

// tells sends an event of a key, and tells whether it was taken.
func (r *rig) tells(door, key, etag string) bool {
	body := fmt.Sprintf(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":%q,"eTag":%q}}}]}`, key, etag)
	req, _ := http.NewRequestWithContext(r.t.Context(), "POST", door+"/hooks/s3/incoming", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer s3cr3t")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// What an object had replaced before anybody saw it is no task once the object is deleted or moved: not by a listing, by an event that comes
// late, or by other rules. The same bytes that are put again are one.
func TestFormerVersionBecomesNoTask(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"delete", "move, move_to: done/"} {
		op, _, _ := strings.Cut(after, ",")
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			s := serve(t, scoring)
			env := map[string]string{"HOOK": "s3cr3t"}
			r := newRig(t, env)
			d := newDepot(t, env, true)
			wrong := noise(30, [32]byte{1})
			d.put("in/DOE^JANE.png", wrong)
			first := d.present("in/DOE^JANE.png")
			d.put("in/DOE^JANE.png", noise(31, [32]byte{2})) // what is meant
			door := httptest.NewServer(api.TakeHooks(http.NotFoundHandler(), r.App))
			defer door.Close()
			tell := func() bool { return r.tells(door.URL, "in/DOE^JANE.png", first) }
			pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
			more := `discover: [poll, webhook], token: "${env:HOOK}", after: ` + after + ", "
			serving := func(rule string, until func() bool) {
				t.Helper()
				r.TTL = 2 * time.Second
				r.servingRoutes(pipelines, r.shared(d.incoming(rule, more)), func() bool { return t.Failed() || until() })
			}
			tended := func(n int) bool { return r.ended(n, 2) && r.atSource()[op+" ok "] == n } // so that none breaks off
			serving("{to: one}", func() bool { return tended(1) && d.present("in/DOE^JANE.png") == first && tell() && tended(1) })
			d.put("in/b.png", noise(32, [32]byte{3})) // which is listed after it
			serving("{when: 'object.size > 0', to: one}", func() bool { return tended(2) && tell() && tended(2) })
			d.put("in/DOE^JANE.png", wrong)
			serving("{to: one}", func() bool { return tended(3) && tell() && tended(3) })
			r.noNames("DOE^JANE")
		})
	}
}

// It is none later, once nothing is moved or deleted any more and somebody looks for the first time.
func TestFormerVersionLongAfter(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{"HOOK": "s3cr3t"}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	d.put("in/a.png", noise(30, [32]byte{1}))
	d.put("in/a.png", noise(31, [32]byte{2}))
	door := httptest.NewServer(api.TakeHooks(http.NotFoundHandler(), r.App))
	defer door.Close()
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
	told := false
	r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", `discover: [webhook], token: "${env:HOOK}", after: delete, `)), func() bool {
		told = told || r.tells(door.URL, "in/a.png", "")
		return told && r.ended(1, 1) && r.atSource()["delete ok "] == 1
	})
	d.put("in/b.png", noise(32, [32]byte{3}))
	r.TTL = 2 * time.Second
	r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "")), func() bool { return r.ended(2, 2) })
}

// It is none either where another process takes away what lies over it after this one has seen that nothing of it is on record.
func TestFormerVersionBesideAnother(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"always", "auto"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := serve(t, scoring)
			env := map[string]string{}
			r := newRig(t, env)
			d := newDepot(t, env, true)
			d.put("in/a.png", noise(30, [32]byte{1}))
			head, err := d.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("inbox"), Key: aws.String("in/a.png")})
			if err != nil {
				t.Fatal(err)
			}
			a := gantry.Arrival{Source: "incoming", RefMAC: gantry.MAC(r.Key, "ref", "incoming", "in/a.png"), Version: "former " + *head.VersionId, Sequencer: "by the other",
				Status: gantry.Superseded, Reason: gantry.CodeFormer}
			var once sync.Once
			d.asked = func(q *http.Request) {
				if !strings.HasPrefix(q.URL.Path, "/inbox/in/") {
					return
				}
				once.Do(func() {
					ids, err := r.Store.ArrivalIDs(t.Context(), 1)
					if a.ID = ids[0]; err == nil {
						_, err = r.Store.TurnAway(t.Context(), []gantry.Arrival{a})
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
			r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "after: delete, copy: "+how+", ")), func() bool { return r.ended(0, 2) })
			if d.present("in/a.png") == "" {
				t.Error("it is gone")
			}
		})
	}
}

// It is known by its time only once that is over by the clock of its server: the same bytes put again within it would be known, too.
func TestFormerVersionByTheServersClock(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	d.put("in/a.png", noise(30, [32]byte{1}))
	first := d.present("in/a.png")
	d.put("in/a.png", noise(31, [32]byte{2}))
	var deleted, again atomic.Int64 // when
	d.answered = func(r *http.Response) {
		if r.Request.Method == http.MethodDelete {
			deleted.Store(time.Now().Unix())
		}
		if deleted.Load() > 0 && again.Load() == 0 {
			r.Header.Set("Date", time.Unix(deleted.Load(), 0).UTC().Format(http.TimeFormat)) // it stands still
		}
	}
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
	r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "after: delete, ")), func() bool {
		if since := time.Now().Unix() - deleted.Load(); deleted.Load() > 0 && since > 4 {
			again.Store(1)
		}
		return r.ended(1, 2)
	})
	if again.Load() == 0 || d.present("in/a.png") != first {
		t.Error("it is known by a time that was not over, or is not there")
	}
}

// What lies under several versions is none either: the newer ones, put while others were under way, are taken and deleted each by itself.
func TestFormerVersionUnderSeveral(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	wrong, second, third := noise(30, [32]byte{1}), noise(31, [32]byte{2}), noise(32, [32]byte{3})
	s := serve(t, func(w http.ResponseWriter, q *http.Request, body []byte, n int) {
		if bytes.Equal(body, second) {
			d.put("in/a.png", third)
		}
		scoring(w, q, body, n)
	})
	d.put("in/a.png", wrong)
	first := d.present("in/a.png")
	d.put("in/a.png", second)
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
	r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "after: delete, ")), func() bool {
		return r.ended(2, 2) && (d.present("in/a.png") == first || t.Failed())
	})
	if seen := s.all(); len(seen) != 2 || seen[0].sum != digest(second) || seen[1].sum != digest(third) {
		t.Errorf("%d requests: %+v", len(seen), seen)
	}
}

// It is no member of a collection either, which would be a revision of that, whether it had been one before it was replaced or nobody saw it.
func TestFormerVersionBecomesNoMember(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]bool{"unseen": false, "seen": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{}
			r := newRig(t, env)
			d := newDepot(t, env, true)
			members := func(n int) bool { return r.count(`select count(*) from collection_member`) == n }
			puts := []func() bool{
				func() bool { d.put("in/f/a.png", noise(30, [32]byte{1})); return true },
				func() bool { return !seen || members(1) },
				func() bool { d.put("in/f/a.png", noise(31, [32]byte{2})); return true },
			}
			first := ""
			s := serve(t, scoring)
			pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "group: {by: prefix, quiet: 500ms, late: append}")}
			r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "after: delete, ")), func() bool {
				for len(puts) > 0 && puts[0]() {
					puts = puts[1:]
					first = cmp.Or(first, d.present("in/f/a.png"))
				}
				return r.count(`select count(*) from collection`) > 1 || len(puts) == 0 && r.ended(1, 2) && d.present("in/f/a.png") == first
			})
			if !members(1) || r.count(`select count(*) from collection`) != 1 {
				t.Errorf("it is a member\n%s", r.log.text())
			}
		})
	}
}

// Where nobody says what lies under an object it stays, which is on record.
func TestFormerVersionUnknown(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "inbox")
	if _, err := g.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: aws.String("inbox"),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:ListBucket","s3:GetObject","s3:GetObjectVersion","s3:DeleteObject","s3:DeleteObjectVersion"],
		"Resource":["arn:aws:s3:::inbox","arn:aws:s3:::inbox/*"]}]}`
	if _, err := g.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("inbox"), Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	body := noise(31, [32]byte{2})
	g.put("inbox", "in/a.png", noise(30, [32]byte{1}))
	g.put("inbox", "in/a.png", body)
	s := serve(t, scoring)
	r := newRig(t, map[string]string{})
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: one
sources: {inbox: {kind: s3, bucket: inbox, endpoint: %q, path_style: true, poll: 50ms, after: delete}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q}}
`, g.Endpoint, r.out, s.URL+"/score"), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	r.servingRoutes([]*gantry.Pipeline{p}, nil, func() bool { return r.ended(1, 0) && r.atSource()["delete failed access_denied"] == 1 })
	if got := g.keys("inbox"); !slices.Equal(got, []string{"in/a.png"}) || !bytes.Equal(g.read("inbox", "in/a.png"), body) {
		t.Errorf("%q", got)
	}
}
