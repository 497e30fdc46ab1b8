package auth

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// answers gives one status after the other.
type answers []int

// RoundTrip gives the next.
func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	status := (*a)[0]
	*a = (*a)[1:]
	return &http.Response{StatusCode: status, Body: http.NoBody}, nil
}

// Credentials that a server says ran out are taken anew for the next request, and no more than once a minute
// however often it says so.
func TestRefusedCredentialsAreTakenAnew(t *testing.T) {
	taken := 0
	creds := cached(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		taken++
		return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
	}))
	next := answers{200, 404, 412, 400, 200, 403, 401, 200, 403, 200}
	s := &awsSigner{next: &next, creds: creds, signer: v4.NewSigner()}
	for i, want := range []int{1, 1, 1, 1, 2, 2, 2, 2} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://127.0.0.1/in/x", nil)
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if taken != want {
			t.Errorf("request %d: taken %d times, want %d", i, taken, want)
		}
	}
	s.forgot.Add(-int64(forgetEvery / time.Second))
	for range 2 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://127.0.0.1/in/x", nil)
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if taken != 3 {
		t.Errorf("taken %d times after a minute, want 3", taken)
	}
}
