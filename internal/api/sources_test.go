package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

type someSources struct {
	list []gantry.SourceStatus
	err  error
}

func (s someSources) Sources(context.Context) ([]gantry.SourceStatus, error) { return s.list, s.err }

// TestSources lists sources to this machine, and leaves all else to the next handler.
func TestSources(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0).UTC()
	one := gantry.SourceStatus{Source: "p/in", Kind: "s3", At: at, Channels: []gantry.ChannelStatus{{Channel: "poll", Heard: &at, Told: 3}}, LastEvent: &at,
		Lag: &gantry.SourceLag{Last: 1, Half: 2, Max: 3}, Arrivals: gantry.ArrivalCounts{Accepted: 3}}
	ask := func(s Sources, method, host string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "http://"+host+"/api/v1/sources", nil)
		ListSources(http.NotFoundHandler(), s).ServeHTTP(w, r)
		return w
	}
	w := ask(someSources{list: []gantry.SourceStatus{one}}, "GET", "127.0.0.1:8090")
	var got sourceList
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	if diff := cmp.Diff([]gantry.SourceStatus{one}, got.Sources); diff != "" {
		t.Error(diff)
	}
	if w := ask(someSources{}, "GET", "localhost"); w.Body.String() != "{\"sources\":[]}\n" {
		t.Errorf("none: %q", w.Body)
	}
	for name, c := range map[string]struct {
		s            Sources
		method, host string
		want         int
	}{
		"another site": {someSources{}, "GET", "evil.example", http.StatusForbidden},
		"not for us":   {someSources{}, "POST", "localhost", http.StatusNotFound},
		"no database":  {someSources{err: gantry.Errorf(gantry.Unavailable, "", "away")}, "GET", "localhost", http.StatusServiceUnavailable},
	} {
		if w := ask(c.s, c.method, c.host); w.Code != c.want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
