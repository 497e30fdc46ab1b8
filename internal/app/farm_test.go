package app_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const farmSecret = "a secret of the farm"

// job is one that a farm was given.
type job struct {
	id, key, callback, sum string
	began                  time.Time
	submits                int
	ready, lost, dropped   bool
}

// farm is a service that answers later, and counts what it is asked.
type farm struct {
	*httptest.Server
	work time.Duration // a job takes; below 0: it never ends

	mu        sync.Mutex
	jobs      map[string]*job // by id
	byKey     map[string]*job
	order     []*job
	most, now int                    // jobs at once
	polls     int                    //
	taken     func(*job)             // runs before the 202 is sent
	verdicts  map[gantry.Verdict]int // that the farm was told
}

func newFarm(t testing.TB, work time.Duration) *farm {
	f := &farm{work: work, jobs: map[string]*job{}, byKey: map[string]*job{}, verdicts: map[gantry.Verdict]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", f.submit)
	mux.HandleFunc("GET /jobs/{id}", f.poll)
	mux.HandleFunc("GET /jobs/{id}/result", f.result)
	mux.HandleFunc("DELETE /jobs/{id}", f.drop)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *farm) submit(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := r.Header.Get("Idempotency-Key")
	f.mu.Lock()
	j := f.byKey[key]
	if j == nil || j.lost || j.dropped {
		j = &job{id: strconv.Itoa(len(f.order) + 1), key: key, sum: digest(b), began: time.Now()}
		f.byKey[key], f.jobs[j.id] = j, j
		f.order = append(f.order, j)
		f.now++
		f.most = max(f.most, f.now)
		if f.work >= 0 {
			time.AfterFunc(f.work, func() { f.finish(j) })
		}
	}
	j.submits++
	j.callback = r.Header.Get("Gantry-Callback")
	taken := f.taken
	f.mu.Unlock()
	if taken != nil {
		taken(j)
	}
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, j.id)
}

// finish ends the work on a job. It counts no longer against what the farm does at once.
func (f *farm) finish(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !j.ready && !j.dropped {
		j.ready = true
		f.now--
	}
}

func (f *farm) poll(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polls++
	switch j := f.jobs[r.PathValue("id")]; {
	case j == nil || j.lost:
		w.WriteHeader(404)
	case !j.ready:
		w.WriteHeader(202)
	}
}

func (f *farm) result(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	j := f.jobs[r.PathValue("id")]
	f.mu.Unlock()
	w.Write(j.answer())
}

func (j *job) answer() []byte {
	b, _ := json.Marshal(map[string]any{"sha256": j.sum, "score": 0.5})
	return b
}

func (f *farm) drop(_ http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j := f.jobs[r.PathValue("id")]; j != nil && !j.ready && !j.dropped {
		j.dropped = true
		f.now--
	}
}

// all gives the jobs in the order in which they came.
func (f *farm) all() []job {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []job
	for _, j := range f.order {
		out = append(out, *j)
	}
	return out
}

// call sends a callback for a job, signed with a secret, and gives what the gateway made of it.
func (f *farm) call(callback, secret string, status gantry.CallbackStatus, body []byte) (gantry.Verdict, error) {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "%s.%s", at, body)
	req, err := http.NewRequest(http.MethodPost, callback, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Gantry-Signature", "t="+at+",v1="+hex.EncodeToString(m.Sum(nil)))
	req.Header.Set("Gantry-Status", string(status))
	req.Header.Set("Content-Type", gantry.MediaJSON)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	v, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, fmt.Errorf("callback: %d %s", resp.StatusCode, b)
	}
	f.mu.Lock()
	f.verdicts[gantry.Verdict(v)]++
	f.mu.Unlock()
	return gantry.Verdict(v), nil
}
