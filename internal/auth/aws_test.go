package auth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const awsSecret = "wJalrXUtnFEMI-EXAMPLE"

func awsCredential() gantry.Credential {
	return gantry.Credential{Name: "bucket", Kind: "aws", AccessKeyID: "${env:ID}", SecretAccessKey: "${env:KEY}"}
}

func TestAWSSigns(t *testing.T) {
	t.Parallel()
	env := environment{"ID": "AKID", "KEY": awsSecret, "TOKEN": "temporary"}
	c := awsCredential()
	c.SessionToken = "${env:TOKEN}"
	for host, region := range map[string]string{
		"127.0.0.1:9000": "us-east-1", "s3.eu-west-1.amazonaws.com": "eu-west-1",
		"in.s3.us-gov-west-1.amazonaws.com": "us-gov-west-1", "s3.cn-north-1.amazonaws.com.cn": "cn-north-1", "s3.amazonaws.com": "us-east-1",
	} {
		for _, digest := range []string{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"} {
			below := &recorder{}
			req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: host, Path: "/in/a b"}, Header: http.Header{}}
			want := "UNSIGNED-PAYLOAD"
			if digest != "" {
				req.Header.Set("X-Amz-Content-Sha256", digest)
				want = digest
			}
			if _, err := wrap(t, below, c, env).RoundTrip(req); err != nil {
				t.Fatal(err)
			}
			h := below.got[0].Header
			if a := h.Get("Authorization"); !strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKID/") || !strings.Contains(a, "/"+region+"/s3/aws4_request") {
				t.Errorf("%s: Authorization %q", host, a)
			}
			if h.Get("X-Amz-Content-Sha256") != want || h.Get("X-Amz-Security-Token") != "temporary" {
				t.Errorf("%s: digest %q, token %q", host, h.Get("X-Amz-Content-Sha256"), h.Get("X-Amz-Security-Token"))
			}
			if req.Header.Get("Authorization") != "" {
				t.Error("the caller's own request was changed")
			}
		}
	}
}

// A queue's requests are signed for the service of queues, in the region of its host.
func TestAWSSignsForAService(t *testing.T) {
	t.Parallel()
	below := &recorder{}
	c := awsCredential()
	rt, err := auth.WrapService(below, &c, "sqs", environment{"ID": "AKID", "KEY": awsSecret}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	req := &http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: "sqs.eu-west-1.amazonaws.com", Path: "/"}, Header: http.Header{"X-Amz-Content-Sha256": {"abc"}}}
	if _, err := rt.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	h := below.got[0].Header
	if a := h.Get("Authorization"); !strings.Contains(a, "/eu-west-1/sqs/aws4_request") || h.Get("X-Amz-Content-Sha256") != "abc" {
		t.Errorf("%v", h)
	}
	if rt, err := auth.WrapService(below, nil, "sqs", nil); err != nil || rt != http.RoundTripper(below) {
		t.Errorf("without a credential: %v, %v", rt, err)
	}
}

func TestAWSMissingSecretSendsNothing(t *testing.T) {
	t.Parallel()
	below := &recorder{}
	_, err := wrap(t, below, awsCredential(), environment{"ID": "AKID"}).RoundTrip(request(t))
	if gantry.KindOf(err) != gantry.Denied || gantry.CodeOf(err) != auth.CodeSecretMissing || len(below.got) != 0 {
		t.Errorf("%v, %d requests sent", err, len(below.got))
	}
}

func TestAWSRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	half, both, literal := awsCredential(), awsCredential(), awsCredential()
	half.SecretAccessKey, both.Profile, literal.SecretAccessKey = "", "p", awsSecret
	for _, c := range []gantry.Credential{half, both, literal} {
		_, err := auth.Wrap(&recorder{}, &c, environment{}.lookup)
		if gantry.KindOf(err) != gantry.Illegal || strings.Contains(err.Error(), awsSecret) {
			t.Errorf("%v", err)
		}
	}
}
