package gate

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOwn sends to the installation's own store without a record, also while a call runs, whose record has nothing of it,
// and to nobody else.
func TestOwn(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		io.WriteString(w, "stored")
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	own := NewOwn(gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}, Policy{}, time.Now)
	defer own.Close()
	call := NewMeter(time.Now)
	send := func(ctx context.Context, address string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return own.RoundTrip(req)
	}
	for _, ctx := range []context.Context{t.Context(), WithMeter(t.Context(), call), WithMeter(t.Context(), call)} {
		resp, err := send(ctx, server.URL+"/")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "stored" || err != nil {
			t.Errorf("answer %q: %v", body, err)
		}
		resp.Body.Close()
	}
	if o := call.Snapshot(); o.RespSize != 0 || o.Status != 0 || call.HasBegun() {
		t.Errorf("the call's record has %+v", o)
	}
	for address, code := range map[string]gantry.Code{"http://127.0.0.2:1/": CodeUndeclaredTarget, server.URL + "/away": CodeRedirect} {
		if _, err := send(t.Context(), address); gantry.CodeOf(err) != code {
			t.Errorf("%s: %v, want %s", address, err, code)
		}
	}
}
