package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// probePrefix is what the keys of probes begin with, below the sink's prefix. No task lays anything there: a task's
// public id has no underscore, and neither has the manifest's folder.
const probePrefix = "_gantry/probe-"

// probe is one look at a sink's server.
type probe struct {
	*sink
	probes
	ctx context.Context
	key string
}

// Probe puts a small object under a key of its own, twice and with other bytes the second time, as deliveries
// are put; it looks which of them is there, and takes it away.
func (s *sink) Probe(ctx context.Context) []gantry.Probe {
	p := &probe{sink: s, ctx: ctx, key: s.prefix + probePrefix + strings.ToLower(rand.Text())}
	if !p.write() {
		return p.found
	}
	first := p.again()
	p.read(first)
	p.kept()
	p.versions()
	p.remove()
	return p.found
}

// probes is what was found.
type probes struct{ found []gantry.Probe }

func (p *probes) well(check, format string, args ...any) {
	p.found = append(p.found, gantry.Probe{Check: check, Text: fmt.Sprintf(format, args...)})
}

func (p *probes) doubt(check, text, advice string) {
	p.found = append(p.found, gantry.Probe{Check: check, Text: text, Advice: advice})
}

func (p *probes) bad(check string, err error, advice string) {
	p.found = append(p.found, gantry.Probe{Check: check, Text: fmt.Sprintf("%v (%s)", err, gantry.CodeOf(err)), Advice: advice, Bad: true})
}

var probeBytes = [...]string{"gantry doctor wrote this\n", "gantry doctor wrote that\n"}

// put puts the probe's first or second bytes.
func (p *probe) put(n int, condition *string) error {
	body := probeBytes[n]
	sum := gantry.Digest(sha256.Sum256([]byte(body)))
	out := gantry.Delivery{SHA: sum, About: gantry.About{Pipeline: "gantry-doctor", Task: strings.Repeat("a", 26), Created: time.Now(), Stage: "probe",
		Processor: "probe", Below: "probe.txt", Source: func(context.Context) (string, error) { return "probe", nil }}}
	along, err := p.labels.fill(p.ctx, out)
	if err != nil {
		return err
	}
	in := &sdk.PutObjectInput{Bucket: &p.bucket, Key: &p.key, Body: strings.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
		ContentType: aws.String("text/plain"), IfNoneMatch: condition, ChecksumSHA256: p.checksum(sum)}
	along.put(in)
	return p.client.put(p.ctx, in, sum)
}

// write tells whether anything can be delivered at all.
func (p *probe) write() bool {
	condition := p.condition()
	err := p.put(0, condition)
	if p.putAgain(err, condition) {
		p.doubt("conditional puts", "the server does not know them: it refuses a put with If-None-Match", "gantry looks before and after each put instead; do not let anything else write below the prefix")
		err = p.put(0, nil)
	}
	if err != nil {
		p.bad("write", plain(p.ctx, "put the probe", err), writeAdvice(err))
		return false
	}
	p.well("write", "an object can be put%s", p.asked())
	return true
}

func writeAdvice(err error) string {
	switch status(err) {
	case http.StatusForbidden, http.StatusUnauthorized:
		return "allow s3:PutObject, with tags s3:PutObjectTagging, with an acl s3:PutObjectAcl, and with a KMS key kms:GenerateDataKey"
	case http.StatusNotFound:
		return "make the bucket"
	case http.StatusBadRequest, http.StatusNotImplemented:
		return "look whether the server knows what the sink asks for: checksums, tags, encryption, storage_class, acl"
	}
	return "look at the sink's credentials, and whether the server is well"
}

// asked says what a put asks for besides.
func (p *probe) asked() string {
	var all []string
	for _, x := range []struct {
		is   bool
		text string
	}{{len(p.labels.tags) > 0, "tags"}, {p.labels.encryption != "", "encryption"}, {p.labels.class != "", "storage class"}, {p.labels.acl != "", "acl"}} {
		if x.is {
			all = append(all, x.text)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return ", with " + strings.Join(all, ", ")
}

// again puts other bytes under the same key, and tells which ought to be there now.
func (p *probe) again() (n int) {
	condition := p.condition()
	if condition == nil {
		if p.server.is() == wordRefused && len(p.found) == 1 {
			p.well("conditional puts", "they are not relied upon, as conditional: off says; gantry looks before and after each put")
		}
		return 0
	}
	err := p.put(1, condition)
	switch {
	case status(err) == http.StatusPreconditionFailed:
		p.well("conditional puts", "a key that is taken is refused (If-None-Match)")
		return 0
	case err == nil:
		p.doubt("conditional puts", "the server takes the condition and replaces the object all the same (If-None-Match)",
			"gantry finds that out with its first small object and then looks before and after each put; do not let anything else write below the prefix")
		return 1
	}
	p.doubt("conditional puts", fmt.Sprintf("a put to a key that is taken ends otherwise than with 412: %v", plain(p.ctx, "put the probe again", err)),
		"look whether a policy of the bucket forbids to replace objects; that does as well")
	return 0
}

// read looks which bytes are there.
func (p *probe) read(n int) {
	out, err := p.client.get(p.ctx, &sdk.GetObjectInput{Bucket: &p.bucket, Key: &p.key})
	if err != nil {
		p.doubt("read", plain(p.ctx, "read the probe", err).Error(), "allow s3:GetObject and s3:ListBucket, which tell a result that was delivered before from another in its place")
		return
	}
	defer out.Body.Close()
	got, err := io.ReadAll(io.LimitReader(out.Body, 1<<10))
	if err != nil || !bytes.Equal(got, []byte(probeBytes[n])) {
		p.bad("read", gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "read the probe: it is not what was put"), "do not use this server: it does not keep what it is given")
		return
	}
	p.well("read", "the object has the bytes that it should")
}

// kept looks whether what was asked for along with the object was done.
func (p *probe) kept() {
	if want := p.labels.encryption; want != "" {
		head, err := p.client.HeadObject(p.ctx, &sdk.HeadObjectInput{Bucket: &p.bucket, Key: &p.key})
		switch {
		case err != nil:
			p.doubt("encryption", plain(p.ctx, "look at the probe", err).Error(), "allow s3:GetObject, so that it can be looked at")
		case head.ServerSideEncryption != want:
			p.bad("encryption", gantry.Errorf(gantry.Permanent, CodeNotImplemented, "look at the probe: its encryption is %q and not %q", string(head.ServerSideEncryption), string(want)),
				"the server does not encrypt as it is asked to; set it up, or take encryption out")
		default:
			p.well("encryption", "it is %s", want)
		}
	}
	if len(p.labels.tags) == 0 {
		return
	}
	tags, err := p.client.GetObjectTagging(p.ctx, &sdk.GetObjectTaggingInput{Bucket: &p.bucket, Key: &p.key})
	switch {
	case err != nil:
		p.doubt("tags", plain(p.ctx, "read the probe's tags", err).Error(), "it is of no matter to gantry, which only writes them (s3:GetObjectTagging)")
	case len(tags.TagSet) == 0:
		p.doubt("tags", "the server dropped them", "do not rely upon tags there, or use metadata")
	default:
		p.well("tags", "%d are there", len(tags.TagSet))
	}
}

func (p *probe) versions() {
	out, err := p.client.GetBucketVersioning(p.ctx, &sdk.GetBucketVersioningInput{Bucket: &p.bucket})
	if err != nil {
		p.well("versioning", "it cannot be asked for (s3:GetBucketVersioning); gantry needs it not")
		return
	}
	p.well("versioning", "%s", cmp.Or(strings.ToLower(string(out.Status)), "never switched on"))
}

// remove takes the probe away, all its versions that are known.
func (p *probe) remove() {
	in := &sdk.DeleteObjectInput{Bucket: &p.bucket, Key: &p.key}
	for range probeBytes {
		head, err := p.client.HeadObject(p.ctx, &sdk.HeadObjectInput{Bucket: &p.bucket, Key: &p.key})
		if status(err) == http.StatusNotFound {
			break
		}
		if err == nil && aws.ToString(head.VersionId) != "" {
			in.VersionId = head.VersionId
		}
		if _, err := p.client.DeleteObject(p.ctx, in); err != nil {
			p.doubt("delete", plain(p.ctx, "delete the probe", err).Error(),
				"gantry never deletes results and needs no such right; the probe stays at "+probePrefix+"… below the prefix, for you to delete")
			return
		}
	}
	p.well("delete", "the probe is gone again; gantry itself never deletes results")
}
