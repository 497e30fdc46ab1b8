package s3

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of buckets.
const (
	CodeBucketMissing    gantry.Code = "bucket_missing"    // NotFound
	CodeQueueMissing     gantry.Code = "queue_missing"     // NotFound
	CodeAccessDenied     gantry.Code = "access_denied"     // Denied
	CodeExpired          gantry.Code = "expired_token"     // Unavailable: the credentials ran out, and are taken anew for the next try
	CodeClockSkew        gantry.Code = "clock_skew"        // Denied: this machine's clock or the server's is wrong
	CodeSlowDown         gantry.Code = "slow_down"         // Unavailable
	CodeNoSpace          gantry.Code = "no_space"          // Unavailable
	CodeServerError      gantry.Code = "server_error"      // Transient
	CodeRefused          gantry.Code = "refused"           // Permanent: the server does not take this request
	CodeNotImplemented   gantry.Code = "not_implemented"   // Permanent: the server cannot do that
	CodeBadPath          gantry.Code = "bad_path"          // Illegal: a ref or path that can be no key
	CodeNameTooLong      gantry.Code = "name_too_long"     // Permanent
	CodeSizeMismatch     gantry.Code = "size_mismatch"     // Transient
	CodeChecksumMismatch gantry.Code = "checksum_mismatch" // Transient
	CodeMalformedAnswer  gantry.Code = "malformed_answer"  // BadResponse
)

const (
	maxPause = 15 * time.Minute // the longest that a server can ask to be left alone
	maxSkew  = 15 * time.Minute // between a server's clock and ours: beyond it no signature holds
)

// meanings are the error codes of the protocol that say more than the status.
var meanings = map[string]struct {
	kind gantry.Kind
	code gantry.Code
}{
	"NoSuchBucket":      {gantry.NotFound, CodeBucketMissing},
	"QueueDoesNotExist": {gantry.NotFound, CodeQueueMissing},
	"AWS.SimpleQueueService.NonExistentQueue": {gantry.NotFound, CodeQueueMissing},
	"OverLimit":                   {gantry.Unavailable, CodeSlowDown}, // too many messages of the queue are in flight
	"RequestThrottled":            {gantry.Unavailable, CodeSlowDown},
	"ThrottlingException":         {gantry.Unavailable, CodeSlowDown},
	"ExpiredToken":                {gantry.Unavailable, CodeExpired},
	"InvalidToken":                {gantry.Unavailable, CodeExpired},
	"RequestTimeTooSkewed":        {gantry.Denied, CodeClockSkew},
	"SlowDown":                    {gantry.Unavailable, CodeSlowDown},
	"SlowDownRead":                {gantry.Unavailable, CodeSlowDown},
	"SlowDownWrite":               {gantry.Unavailable, CodeSlowDown},
	"ServiceUnavailable":          {gantry.Unavailable, CodeSlowDown},
	"RequestTimeout":              {gantry.Transient, CodeServerError},
	"BadDigest":                   {gantry.Transient, CodeChecksumMismatch},
	"XAmzContentSHA256Mismatch":   {gantry.Transient, CodeChecksumMismatch},
	"XAmzContentChecksumMismatch": {gantry.Transient, CodeChecksumMismatch},
	"IncompleteBody":              {gantry.Transient, CodeSizeMismatch},
	"EntityTooLarge":              {gantry.Permanent, gantry.CodeTooLarge},
	"KeyTooLongError":             {gantry.Permanent, CodeNameTooLong},
	"QuotaExceeded":               {gantry.Unavailable, CodeNoSpace},
	"ObjectParentIsFile":          {gantry.Permanent, gantry.CodeConflict}, // of servers that keep keys as files
	"ExistingObjectIsDirectory":   {gantry.Permanent, gantry.CodeConflict},
}

// status gives the HTTP status that an operation failed with; 0 if there was no such answer.
func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && r.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// saysNothing tells whether an operation failed with the answer to a HEAD, which has no body to say why: the credentials may
// have run out.
func saysNothing(err error) bool {
	r, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && r.Response != nil && r.Response.Request != nil && r.Response.Request.Method == http.MethodHead
}

// skewed tells whether an answer comes from a server whose clock is so far from ours that it refuses signatures.
func skewed(err error) bool {
	r, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || r.Response == nil {
		return false
	}
	at, bad := http.ParseTime(r.Response.Header.Get("Date"))
	return bad == nil && time.Since(at).Abs() > maxSkew
}

// classify says what an error of the SDK means. Its text is our own: the SDK's quotes answers. doing
// is the verb of it.
func classify(ctx context.Context, doing string, err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	code := status(err)
	switch {
	case code == 0:
		if _, sent := errors.AsType[*smithyhttp.RequestSendError](err); sent {
			return gantry.Errorf(gantry.Transient, "", "%s: the connection broke", doing)
		}
		return gantry.Errorf(gantry.Illegal, CodeRefused, "%s: the request cannot be made", doing)
	case code < http.StatusMultipleChoices && !isAPI(err):
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "%s: the answer makes no sense", doing)
	}
	kind, reason := byStatus(code)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if m, known := meanings[api.ErrorCode()]; known {
			kind, reason = m.kind, m.code
		}
	}
	switch {
	case !saysNothing(err):
	case code == http.StatusBadRequest:
		kind = gantry.Transient
	case code == http.StatusForbidden && skewed(err):
		reason = CodeClockSkew
	}
	out := gantry.Errorf(kind, reason, "%s: the server answers with status %d", doing, code)
	out.RetryAfter = retryAfter(err)
	return out
}

func isAPI(err error) bool {
	_, ok := errors.AsType[smithy.APIError](err)
	return ok
}

// errorCode is the code of the protocol that an operation failed with.
func errorCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// byStatus reads an HTTP status (RFC 9110 section 15) as S3 uses it.
func byStatus(code int) (gantry.Kind, gantry.Code) {
	switch code {
	case http.StatusNotFound, http.StatusPreconditionFailed, http.StatusGone, http.StatusRequestedRangeNotSatisfiable:
		return gantry.NotFound, gantry.CodeSourceGone
	case http.StatusUnauthorized, http.StatusForbidden:
		return gantry.Denied, CodeAccessDenied
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return gantry.Unavailable, CodeSlowDown
	case http.StatusInsufficientStorage:
		return gantry.Unavailable, CodeNoSpace
	case http.StatusNotImplemented:
		return gantry.Permanent, CodeNotImplemented
	case http.StatusRequestTimeout, http.StatusConflict:
		return gantry.Transient, CodeServerError
	case http.StatusRequestEntityTooLarge:
		return gantry.Permanent, gantry.CodeTooLarge
	}
	if code >= http.StatusInternalServerError || code < http.StatusMultipleChoices { // 200 with an error inside
		return gantry.Transient, CodeServerError
	}
	return gantry.Permanent, CodeRefused
}

// retryAfter reads how long the server wants to be left alone, in seconds.
func retryAfter(err error) time.Duration {
	r, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || r.Response == nil {
		return 0
	}
	n, perr := strconv.ParseUint(r.Response.Header.Get("Retry-After"), 10, 32)
	if perr != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxPause)
}
