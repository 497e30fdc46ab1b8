package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What a queue needs, so that an outage of some hours loses nothing.
const (
	fewReceives = 10 // of a message, before it goes to the dead-letter queue
	shortKept   = 24 * time.Hour
	maxPolicy   = 64 << 10 // bytes of a redrive policy
)

// sourceProbe is one look at a source's bucket and queue. It changes nothing and takes no message.
type sourceProbe struct {
	*source
	probes
	ctx context.Context
}

// Probe lists the bucket, looks at one object of it if there is any, asks for versions, and asks the queue, if there is one, for its
// settings.
func (s *source) Probe(ctx context.Context) []gantry.Probe {
	p := &sourceProbe{source: s, ctx: ctx}
	if p.list() {
		p.kept()
		p.formers()
	}
	if s.queue != nil {
		p.ask()
	}
	return p.found
}

// list tells whether there is a bucket to look at further.
func (p *sourceProbe) list() bool {
	page, err := p.source.list(p.ctx, &sdk.ListObjectsV2Input{Bucket: &p.bucket, Prefix: &p.prefix, MaxKeys: aws.Int32(1), EncodingType: types.EncodingTypeUrl})
	if err != nil {
		p.bad("list", err, listAdvice(err))
		return false
	}
	if len(page.Contents) == 0 {
		p.well("list", "the bucket can be listed; nothing is below the prefix")
		return true
	}
	p.well("list", "the bucket can be listed")
	o, err := toObject(&page.Contents[0], page.EncodingType)
	if err == nil {
		_, err = p.client.HeadObject(p.ctx, &sdk.HeadObjectInput{Bucket: &p.bucket, Key: &o.Ref})
	}
	switch {
	case status(err) == http.StatusNotFound: // gone meanwhile
	case err != nil:
		p.bad("read", classify(p.ctx, "look at an object", err), "allow s3:GetObject below the prefix, and kms:Decrypt where a key of yours encrypts the bucket")
	default:
		p.well("read", "an object can be looked at")
	}
	return true
}

func listAdvice(err error) string {
	switch gantry.CodeOf(err) {
	case CodeAccessDenied:
		return "allow s3:ListBucket; without it a missing object looks forbidden too, and its event comes again and again"
	case CodeBucketMissing, gantry.CodeSourceGone:
		return "make the bucket, or look at bucket, endpoint and region of the source"
	}
	return "look at the source's endpoint and credentials, and whether the server is well"
}

// kept says what the bucket's versions mean for copy.
func (p *sourceProbe) kept() {
	keeps, err := p.versions(p.ctx)
	switch {
	case err != nil:
		p.doubt("versioning", err.Error(), "look whether the server is well: an object is not taken before this is known")
	case p.copy == copyNever && keeps == keepsNone:
		p.doubt("versioning", "the bucket keeps no versions, or does not say so, and nothing is copied (copy: never)",
			"switch versions on, or let nothing be replaced or deleted before its tasks have ended: they would end as source_gone")
	case keeps == keepsNone:
		p.well("versioning", "the bucket keeps no versions, or does not say so (s3:GetBucketVersioning): objects are copied")
	case p.copy == copyAlways:
		p.well("versioning", "the bucket keeps versions; objects are copied (copy: always)")
	default:
		p.well("versioning", "the bucket keeps versions: objects are read where they are")
	}
}

// formers lists versions if after deletes or moves objects and the bucket keeps or kept any: it has to know what lies under them.
func (p *sourceProbe) formers() {
	takes := func(x after) bool { return x.op != gantry.OpTag }
	if !slices.ContainsFunc(slices.Collect(maps.Values(p.after)), takes) {
		return
	}
	keeps, err := p.client.GetBucketVersioning(p.ctx, &sdk.GetBucketVersioningInput{Bucket: &p.bucket})
	if err == nil && keeps.Status == "" {
		return
	}
	_, err = p.listVersions(p.ctx, &sdk.ListObjectVersionsInput{Bucket: &p.bucket, Prefix: &p.prefix, MaxKeys: aws.Int32(1), EncodingType: types.EncodingTypeUrl})
	if err != nil {
		p.doubt("former versions", err.Error(), "allow s3:ListBucketVersions: what after is to move or delete stays where its former versions cannot be looked for")
		return
	}
	p.well("former versions", "versions can be listed: a former one is no input once after took away what lay over it")
}

// ask asks the queue for its settings.
func (p *sourceProbe) ask() {
	ctx, cancel := context.WithTimeout(p.ctx, queueTimeout)
	defer cancel()
	out, err := p.queue.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &p.queue.url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	if err != nil {
		err = asked(ctx, "ask for the queue's settings", err)
		switch gantry.CodeOf(err) {
		case CodeAccessDenied:
			p.doubt("queue", err.Error(), "gantry itself needs sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility; allow sqs:GetQueueAttributes too, so that doctor can look")
		case CodeQueueMissing:
			p.bad("queue", err, "make the queue, or look at queue_url")
		default:
			p.bad("queue", err, "look at queue_url and queue_endpoint, at the credentials, and whether the server is well")
		}
		return
	}
	p.settings(out.Attributes)
}

// settings says what the queue's settings come to.
func (p *sourceProbe) settings(is map[string]string) {
	number := func(name sqstypes.QueueAttributeName) (n int, ok bool) {
		n, err := strconv.Atoi(is[string(name)])
		return n, err == nil && n >= 0
	}
	waiting, _ := number(sqstypes.QueueAttributeNameApproximateNumberOfMessages)
	p.well("queue", "it answers; about %d messages wait", waiting)
	hidden, ok := number(sqstypes.QueueAttributeNameVisibilityTimeout)
	switch mine := int(p.queue.hidden / time.Second); {
	case ok && hidden < mine:
		p.doubt("visibility", fmt.Sprintf("the queue's visibility timeout is %d s", hidden),
			fmt.Sprintf("gantry asks for %d s with each receive; of a server that does not heed that, messages would come twice: set 60 s", mine))
	case ok:
		p.well("visibility", "the visibility timeout is %d s; gantry asks for %d s with each receive and prolongs it", hidden, mine)
	}
	if kept, ok := number(sqstypes.QueueAttributeNameMessageRetentionPeriod); ok && time.Duration(kept)*time.Second < shortKept {
		p.doubt("retention", fmt.Sprintf("messages are kept for %d s", kept), "keep them for days (14 at most): what came while gantry was away for longer is missed, unless discover names poll too")
	}
	if late, ok := number(sqstypes.QueueAttributeNameDelaySeconds); ok && late > 0 {
		p.doubt("delay", fmt.Sprintf("messages are held back for %d s", late), "set the delivery delay to 0, so that objects are seen at once")
	}
	if n := receives(is[string(sqstypes.QueueAttributeNameRedrivePolicy)]); n > 0 && n < fewReceives {
		p.doubt("dead letters", fmt.Sprintf("a message goes to the dead-letter queue after %d receives", n),
			"set maxReceiveCount to 50: gantry keeps what it does not understand itself, and whatever else comes back is worth another try")
	}
}

// receives reads after how many receives a message is given up (maxReceiveCount of a redrive policy, a number or a text); 0: never.
func receives(policy string) int {
	var p struct {
		Most json.RawMessage `json:"maxReceiveCount"`
	}
	if len(policy) > maxPolicy || json.Unmarshal([]byte(policy), &p) != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.Trim(string(p.Most), `"`))
	if err != nil {
		return 0
	}
	return n
}
