package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// shelf answers with what it was asked for.
type shelf struct{ err error }

func (s shelf) Collections(_ context.Context, f CollectionFilter) ([]Collection, error) {
	if f.Pipeline == "none" {
		return nil, s.err
	}
	return []Collection{{ID: int64(f.Limit), Pipeline: f.Pipeline, State: f.State, Why: "quiet", First: time.Unix(0, 0).UTC()}}, s.err
}

// TestListCollections: what is asked for is what is listed, and what there cannot be is refused.
func TestListCollections(t *testing.T) {
	t.Parallel()
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "next") })
	for _, c := range []struct {
		path   string
		err    error
		status int
		want   string
	}{
		{"/api/v1/collections", nil, 200, `"id":50,"pipeline":"","source"`},
		{"/api/v1/collections?pipeline=ct&state=open&limit=7", nil, 200, `"id":7,"pipeline":"ct"`},
		{"/api/v1/collections?pipeline=none", nil, 200, `{"collections":[]}`},
		{"/api/v1/collections?state=ajar", nil, 400, "bad_filter"},
		{"/api/v1/collections?limit=0", nil, 400, "bad_filter"},
		{"/api/v1/collections?limit=1001", nil, 400, "bad_filter"},
		{"/api/v1/collections?limit=x", nil, 400, "bad_filter"},
		{"/api/v1/collections", gantry.Errorf(gantry.Unavailable, "away", "list: away"), 503, "away"},
		{"/api/v1/collections", errors.New("secret"), 503, ""},
		{"/elsewhere", nil, 200, "next"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+c.path, nil)
		w := httptest.NewRecorder()
		ListCollections(next, shelf{c.err}).ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "http://evil.example/api/v1/collections", nil)
	w := httptest.NewRecorder()
	if ListCollections(next, shelf{}).ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
}
