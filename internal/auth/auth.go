// Package auth signs outbound requests with the credentials that a pipeline names. Read auth.go
// first (the RoundTripper), then secret.go (where
// secrets come from and how they stay hidden), aws.go (AWS Signature Version 4) and callback.go (what
// services send on their own, held to its signature).
package auth

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of credentials that cannot be used.
const (
	CodeBadCredential   gantry.Code = "bad_credential"   // Illegal: an unknown kind, or what it needs is not there
	CodeBadReference    gantry.Code = "bad_secret"       // Illegal: not a reference
	CodeSecretMissing   gantry.Code = "secret_missing"   // Denied: nothing where the reference points
	CodeSecretMalformed gantry.Code = "secret_malformed" // Denied: it is no text for a header
)

// Wrap gives a RoundTripper that adds c's Authorization, or the header that it names, to each request and hands it to rt; rt
// itself if c is nil. env looks up the environment (os.LookupEnv). Secrets are resolved when a
// request is sent: a file that changed is read again. A credential that makes no sense is Illegal
// here; a secret that is missing is Denied then, and the request does not leave.
//
// A request that follows a redirect to another origin goes without the credential.
func Wrap(rt http.RoundTripper, c *gantry.Credential, env func(string) (string, bool)) (http.RoundTripper, error) {
	return WrapService(rt, c, "s3", env)
}

// WrapService is Wrap for a service of AWS, which signatures of kind aws name: s3, sqs. Of services other than s3 the
// driver has to give the digest of each body, as X-Amz-Content-Sha256.
func WrapService(rt http.RoundTripper, c *gantry.Credential, service string, env func(string) (string, bool)) (http.RoundTripper, error) {
	if c == nil {
		return rt, nil
	}
	if c.Kind == "aws" {
		return newAWS(rt, c, service, env)
	}
	header, err := authorization(c, env)
	if err != nil {
		return nil, err
	}
	return &signer{next: rt, name: cmp.Or(c.Header, "Authorization"), header: header}, nil
}

// authorization makes the function that makes the header.
func authorization(c *gantry.Credential, env func(string) (string, bool)) (func() (Secret, error), error) {
	switch c.Kind {
	case "bearer":
		token, err := parseRef(c.Token, env)
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeOf(err), "auth %s: token: %w", c.Name, err)
		}
		return func() (Secret, error) { // RFC 6750 section 2.1
			v, err := token.resolve()
			return NewSecret("Bearer " + v.Reveal()), err
		}, nil
	case "basic":
		if c.Username == "" || strings.ContainsFunc(c.Username, func(r rune) bool { return r == ':' || r < ' ' || r == 0x7f }) {
			return nil, gantry.Errorf(gantry.Illegal, CodeBadCredential, "auth %s: username: empty, or holds a colon or a control character", c.Name)
		}
		password, err := parseRef(c.Password, env)
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeOf(err), "auth %s: password: %w", c.Name, err)
		}
		return func() (Secret, error) { // RFC 7617 section 2
			v, err := password.resolve()
			return NewSecret("Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+v.Reveal()))), err
		}, nil
	case "header":
		if !gantry.IsSecretHeader(c.Header) {
			return nil, gantry.Errorf(gantry.Illegal, CodeBadCredential, "auth %s: header: no name of a header that can carry a secret", c.Name)
		}
		value, err := parseRef(c.Value, env)
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeOf(err), "auth %s: value: %w", c.Name, err)
		}
		return value.resolve, nil
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeBadCredential, "auth %s: no kind %q, only aws, basic, bearer and header", c.Name, c.Kind)
}

// signer is the RoundTripper of Wrap.
type signer struct {
	next   http.RoundTripper
	name   string // of the header
	header func() (Secret, error)
}

// RoundTrip signs a copy of the request and sends it.
func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	if strayed(req) {
		return s.next.RoundTrip(req)
	}
	h, err := s.header()
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	signed := req.Clone(req.Context())
	if signed.Header == nil {
		signed.Header = http.Header{}
	}
	signed.Header.Set(s.name, h.Reveal())
	return s.next.RoundTrip(signed)
}

// strayed tells whether a chain of redirects left the origin of its first request.
func strayed(req *http.Request) bool {
	for r := req; r.Response != nil && r.Response.Request != nil; r = r.Response.Request {
		from := r.Response.Request.URL
		if !strings.EqualFold(from.Host, req.URL.Host) || from.Scheme != req.URL.Scheme {
			return true
		}
	}
	return false
}

// Resolve reads the secret that a reference means, once. env is asked for the variables of ${env:NAME}.
// A secret that is not there is Denied with code secret_missing; one that can be none, secret_malformed.
func Resolve(ref gantry.SecretRef, env func(string) (string, bool)) (Secret, error) {
	s, err := parseRef(ref, env)
	if err != nil {
		return Secret{}, err
	}
	return s.resolve()
}
