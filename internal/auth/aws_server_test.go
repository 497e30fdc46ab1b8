package auth_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// A real server checks the signatures: right ones are taken, also over a path that needs escaping
// and over the digest of a body; a wrong key and no signature at all are not.
func TestAWSSignatureAtAServer(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	env := environment{"ID": s.AccessKey, "KEY": s.SecretKey}
	signed := wrap(t, &http.Transport{}, awsCredential(), env)
	wrong := wrap(t, &http.Transport{}, awsCredential(), environment{"ID": s.AccessKey, "KEY": "another-secret"})
	for _, c := range []struct {
		rt                 http.RoundTripper
		method, path, body string
		digest             string
		want               int
	}{
		{signed, "PUT", "/inbox", "", "", 200},
		{signed, "PUT", "/inbox/a%20b%2Bc%C3%BC.dcm", "body", "", 200},
		{signed, "PUT", "/inbox/c.dcm", "body", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5", 200},
		{signed, "PUT", "/inbox/d.dcm", "other", "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5", 400},
		{signed, "GET", "/inbox/a%20b%2Bc%C3%BC.dcm", "", "", 200},
		{signed, "GET", "/inbox?list-type=2&prefix=a%20b", "", "", 200},
		{wrong, "GET", "/inbox/c.dcm", "", "", 403},
		{&http.Transport{}, "GET", "/inbox/c.dcm", "", "", 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.Endpoint+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.digest != "" {
			req.Header.Set("X-Amz-Content-Sha256", c.digest)
		}
		resp, err := c.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: status %d, want %d: %s", c.method, c.path, resp.StatusCode, c.want, answer)
		}
	}
}
