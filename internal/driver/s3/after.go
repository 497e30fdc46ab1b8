package s3

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of what becomes of inputs. Both are Permanent: another try would end so too.
const (
	CodeLocked      gantry.Code = "object_locked" // a legal hold or a retention (Object Lock) keeps the object
	CodeTooManyTags gantry.Code = "too_many_tags"
)

const (
	tagName = "gantry"
	maxCopy = 5 << 30 // bytes that a server copies at once
)

// treatments are the words of after and after_failed, without keep.
var treatments = map[string]gantry.Op{"tag": gantry.OpTag, "move": gantry.OpMove, "delete": gantry.OpDelete}

// after is what becomes of objects.
type after struct {
	op gantry.Op
	to string // of a move: what keys begin with
}

func (c SourceConfig) afters() map[gantry.State]after {
	all := map[gantry.State]after{}
	for _, x := range []struct {
		ended   gantry.State
		way, to string
	}{{gantry.Done, c.After, c.MoveTo}, {gantry.Failed, c.AfterFailed, c.FailedTo}} {
		if op, ok := treatments[x.way]; ok {
			all[x.ended] = after{op, x.to}
		}
	}
	return all
}

// checkAfter lists what is wrong with what becomes of objects. What is moved must not be announced again.
func (c SourceConfig) checkAfter() (found []gantry.FieldProblem) {
	bad := func(key, text string) { found = append(found, gantry.FieldProblem{Key: key, Text: text}) }
	if !slices.Contains([]string{"", "keep", "tag", "move", "delete"}, c.After) {
		bad("after", "is neither keep, tag, move nor delete")
	}
	if !slices.Contains([]string{"", "keep", "tag", "move"}, c.AfterFailed) {
		bad("after_failed", "is neither keep, tag nor move: an input that failed is never deleted")
	}
	for _, x := range []struct{ way, is, key, to string }{{"after", c.After, "move_to", c.MoveTo}, {"after_failed", c.AfterFailed, "failed_to", c.FailedTo}} {
		switch {
		case x.is == "move" && x.to == "":
			bad(x.way, "move wants "+x.key+", where to")
		case x.is != "move" && x.to != "":
			bad(x.key, "goes with "+x.way+": move")
		case x.to == "":
		case len(checkPrefix(x.key, x.to)) > 0 || strings.HasPrefix(x.to, "/"):
			bad(x.key, "is no beginning of a key")
		case gantry.TakesMoved(c, c, x.to):
			bad(x.key, "lies below prefix: what is moved there would be taken again; name it under exclude")
		}
	}
	return found
}

// Fleeting gives the key that takes objects away of which there may be no copy. With copy: auto there is none where the bucket
// keeps versions, which nobody knows before the bucket is asked; the version that was read goes too.
func (c SourceConfig) Fleeting() string {
	if c.Copy == copyAlways {
		return ""
	}
	for _, x := range []struct{ key, is string }{{"after", c.After}, {"after_failed", c.AfterFailed}} {
		if x.is == "move" || x.is == "delete" {
			return x.key
		}
	}
	return ""
}

// After says what becomes of objects whose tasks ended so.
func (s *source) After(ended gantry.State) (gantry.Op, bool) {
	x, ok := s.after[ended]
	return x.op, ok
}

// Mark gives the object's key and ETag.
func (s *source) Mark(o gantry.Object) string {
	if o.Version == "" || !utf8.ValidString(o.Ref) {
		return ""
	}
	b, _ := json.Marshal(located{Key: o.Ref, ETag: `"` + o.Version + `"`}) // two texts
	return string(b)
}

// Tidy tags, moves or deletes the very object that was read: its version if the bucket keeps any, else the one
// with its ETag.
func (s *source) Tidy(ctx context.Context, mark string, ended gantry.State, former func(context.Context, gantry.Object) error) error {
	err := s.tidy(ctx, mark, ended, former)
	if code := gantry.CodeOf(err); code == CodeExpired || code == CodeClockSkew { // somebody will mend that
		return gantry.Errorf(gantry.Unavailable, code, "%w", err)
	}
	return err
}

func (s *source) tidy(ctx context.Context, mark string, ended gantry.State, former func(context.Context, gantry.Object) error) error {
	var at located
	x, ok := s.after[ended]
	if err := json.Unmarshal([]byte(mark), &at); err != nil || at.Key == "" || len(at.Key) > maxKey || at.ETag == "" || !ok {
		return gantry.Errorf(gantry.Illegal, CodeBadPath, "tidy object: its mark can be none")
	}
	head, err := s.present(ctx, &at)
	if err != nil {
		return err
	}
	switch {
	case x.op == gantry.OpTag:
		return s.tag(ctx, at, ended.String())
	case s.locked(head):
		return gantry.Errorf(gantry.Permanent, CodeLocked, "%s object: the bucket holds it (Object Lock)", x.op)
	case x.op == gantry.OpMove:
		if _, err := s.under(ctx, at); err != nil { // of what stays no copy is made
			return err
		}
		if err := s.copyTo(ctx, at, head, x.to+strings.TrimPrefix(at.Key, s.prefix)); err != nil {
			return err
		}
		fail.Point("after_object_copy")
		if _, err := s.present(ctx, &at); err != nil { // copying may take long, and a server may delete without conditions
			return err
		}
	}
	return s.delete(ctx, at, former)
}

// present looks whether the object is there, and learns its version.
func (s *source) present(ctx context.Context, at *located) (*sdk.HeadObjectOutput, error) {
	in := &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &at.Key, IfMatch: &at.ETag}
	if at.Version != "" {
		in.VersionId = &at.Version
	}
	head, err := s.client.HeadObject(ctx, in)
	if err != nil {
		return nil, classify(ctx, "look at object", err)
	}
	if aws.ToString(head.ETag) != at.ETag || aws.ToBool(head.DeleteMarker) {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "look at object: another took its place")
	}
	if at.Version == "" {
		at.Version = aws.ToString(head.VersionId)
	}
	return head, nil
}

// locked tells whether a bucket says that it will not let an object go.
func (s *source) locked(head *sdk.HeadObjectOutput) bool {
	return head.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn ||
		head.ObjectLockMode != "" && aws.ToTime(head.ObjectLockRetainUntilDate).After(s.now())
}

func (at located) version() *string {
	if at.Version == "" {
		return nil
	}
	return &at.Version
}

// tag sets one tag and leaves the others.
func (s *source) tag(ctx context.Context, at located, value string) error {
	was, err := s.client.GetObjectTagging(ctx, &sdk.GetObjectTaggingInput{Bucket: &s.bucket, Key: &at.Key, VersionId: at.version()})
	var tags []types.Tag
	switch {
	case err == nil:
		tags = was.TagSet
	case !noTags(err):
		return classify(ctx, "read the object's tags", err)
	}
	i := slices.IndexFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == tagName })
	switch {
	case i >= 0 && aws.ToString(tags[i].Value) == value:
		return nil
	case i >= 0:
		tags[i].Value = &value
	case len(tags) >= maxTags:
		return gantry.Errorf(gantry.Permanent, CodeTooManyTags, "tag object: it has %d tags already", len(tags))
	default:
		tags = append(tags, types.Tag{Key: aws.String(tagName), Value: &value})
	}
	_, err = s.client.PutObjectTagging(ctx, &sdk.PutObjectTaggingInput{Bucket: &s.bucket, Key: &at.Key, VersionId: at.version(), Tagging: &types.Tagging{TagSet: tags}})
	return tidied(ctx, "tag object", err)
}

// noTags tells the answer of servers for which an object without tags has no set of them.
func noTags(err error) bool { return errorCode(err) == "NoSuchTagSet" }

// tidied classifies an error of a change.
func tidied(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if code := errorCode(err); code == "ObjectLocked" || code == "InvalidObjectState" {
		return gantry.Errorf(gantry.Permanent, CodeLocked, "%s: the bucket holds it (Object Lock)", doing)
	}
	return classify(ctx, doing, err)
}
