package auth

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeNoCredentials is Denied: AWS credentials were not found, or not given out.
const CodeNoCredentials gantry.Code = "no_credentials"

const (
	defaultRegion = "us-east-1"
	contentSHA    = "X-Amz-Content-Sha256"
	refreshBefore = time.Minute // that credentials run out
	forgetEvery   = time.Minute // at most, because of what a server answers
)

// awsSigner signs requests for a service of AWS with AWS Signature Version 4. The digest of the body is the
// driver's, from X-Amz-Content-Sha256; without it the body is not signed.
type awsSigner struct {
	next    http.RoundTripper
	name    string
	service string
	region  string // empty: that of the request's host
	creds   aws.CredentialsProvider
	signer  *v4.Signer
	forgot  atomic.Int64 // Unix seconds
}

// newAWS makes the signer of a credential of kind aws. It opens nothing.
func newAWS(rt http.RoundTripper, c *gantry.Credential, service string, env func(string) (string, bool)) (http.RoundTripper, error) {
	base, err := awsBase(c, env)
	if err != nil {
		return nil, err
	}
	if c.RoleARN != "" {
		role := &assumed{base: base, region: awsRegion(c.Region, ""), role: c.RoleARN}
		base = &remembered{CredentialsCache: cached(role), base: base}
	}
	return &awsSigner{
		next: rt, name: c.Name, service: service, region: c.Region, creds: base,
		signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }), // S3 does not escape twice
	}, nil
}

// awsBase gives the credentials that the block names, or those of the SDK's default chain.
func awsBase(c *gantry.Credential, env func(string) (string, bool)) (aws.CredentialsProvider, error) {
	if c.AccessKeyID == "" && c.SecretAccessKey == "" && c.SessionToken == "" {
		return &chain{profile: c.Profile, region: awsRegion(c.Region, "")}, nil
	}
	if c.Profile != "" {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadCredential, "auth %s: profile and keys exclude one another", c.Name)
	}
	var k keys
	for _, f := range []struct {
		name string
		ref  gantry.SecretRef
		to   **secret
	}{{"access_key_id", c.AccessKeyID, &k.id}, {"secret_access_key", c.SecretAccessKey, &k.key}, {"session_token", c.SessionToken, &k.token}} {
		if f.ref == "" && f.name == "session_token" {
			continue
		}
		s, err := parseRef(f.ref, env)
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeOf(err), "auth %s: %s: %w", c.Name, f.name, err)
		}
		*f.to = s
	}
	return &k, nil
}

// cached keeps credentials until shortly before they run out; callers at once share one refresh.
func cached(p aws.CredentialsProvider) *aws.CredentialsCache {
	return aws.NewCredentialsCache(p, ahead)
}

func ahead(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = refreshBefore }

// forgetting are credentials that are kept until they run out, or until Invalidate.
type forgetting interface{ Invalidate() }

// remembered are credentials that were taken with others.
type remembered struct {
	*aws.CredentialsCache
	base aws.CredentialsProvider
}

// Invalidate forgets both.
func (r *remembered) Invalidate() {
	if b, ok := r.base.(forgetting); ok {
		b.Invalidate()
	}
	r.CredentialsCache.Invalidate()
}

// keys are references that are resolved at each use.
type keys struct{ id, key, token *secret }

// Retrieve resolves the references.
func (k *keys) Retrieve(context.Context) (aws.Credentials, error) {
	out := aws.Credentials{Source: "gantry"}
	for s, to := range map[*secret]*string{k.id: &out.AccessKeyID, k.key: &out.SecretAccessKey, k.token: &out.SessionToken} {
		if s == nil {
			continue
		}
		v, err := s.resolve()
		if err != nil {
			return aws.Credentials{}, err
		}
		*to = v.Reveal()
	}
	return out, nil
}

// chain is the SDK's default chain: environment, shared files, web identity, container, instance. It keeps what it
// found until shortly before that runs out.
type chain struct {
	profile, region string

	mu     sync.Mutex
	loaded aws.CredentialsProvider
}

// Retrieve asks the chain, which is set up at the first use.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	return found.Retrieve(ctx)
}

func (c *chain) load(ctx context.Context) (aws.CredentialsProvider, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.region), config.WithSharedConfigProfile(c.profile), config.WithCredentialsCacheOptions(ahead))
		if err != nil {
			return nil, err
		}
		c.loaded = cfg.Credentials
	}
	return c.loaded, nil
}

// Invalidate has the chain set up anew: its files may say something else by now.
func (c *chain) Invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = nil
}

// assumed are the credentials of a role, taken with others.
type assumed struct {
	base         aws.CredentialsProvider
	region, role string
}

// Retrieve asks STS (AssumeRole).
func (a *assumed) Retrieve(ctx context.Context) (aws.Credentials, error) {
	client := sts.New(sts.Options{Region: a.region, Credentials: a.base})
	return stscreds.NewAssumeRoleProvider(client, a.role, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "gantry" }).Retrieve(ctx)
}

// RoundTrip signs a copy of the request and sends it.
func (s *awsSigner) RoundTrip(req *http.Request) (*http.Response, error) {
	if strayed(req) {
		return s.next.RoundTrip(req)
	}
	signed, err := s.sign(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := s.next.RoundTrip(signed)
	if err == nil {
		s.judge(resp.StatusCode)
	}
	return resp, err
}

// judge forgets credentials that a server may have refused because they ran out before their time: S3 answers
// 400 ExpiredToken or 403, and nothing but the status to a HEAD. The next request takes them anew.
func (s *awsSigner) judge(status int) {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return
	}
	cache, ok := s.creds.(forgetting)
	if !ok {
		return
	}
	now, last := time.Now().Unix(), s.forgot.Load()
	if now-last >= int64(forgetEvery/time.Second) && s.forgot.CompareAndSwap(last, now) {
		cache.Invalidate()
	}
}

func (s *awsSigner) sign(req *http.Request) (*http.Request, error) {
	ctx := req.Context()
	c, err := s.creds.Retrieve(ctx)
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return nil, own
	}
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil { // its text may quote answers and keys
		return nil, gantry.Errorf(gantry.Denied, CodeNoCredentials, "auth %s: no AWS credentials", s.name)
	}
	out := req.Clone(ctx)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if out.Header.Get(contentSHA) == "" {
		out.Header.Set(contentSHA, "UNSIGNED-PAYLOAD")
	}
	region := awsRegion(s.region, req.URL.Hostname())
	if err := s.signer.SignHTTP(ctx, c, out, out.Header.Get(contentSHA), s.service, region, time.Now()); err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadCredential, "auth %s: the request cannot be signed", s.name)
	}
	return out, nil
}

var regionLabel = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]$`)

// awsRegion is the region as set, else that in a host name of AWS, else us-east-1.
func awsRegion(set, host string) string {
	if set != "" {
		return set
	}
	host = strings.TrimSuffix(host, ".cn")
	if head, ok := strings.CutSuffix(host, ".amazonaws.com"); ok {
		if label := head[strings.LastIndexByte(head, '.')+1:]; regionLabel.MatchString(label) {
			return label
		}
	}
	return defaultRegion
}
