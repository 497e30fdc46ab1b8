package s3

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of messages that tell of no object. All are Illegal.
const (
	CodeNotUnderstood gantry.Code = "not_understood" // JSON, but no notification that we know
	CodeTooDeep       gantry.Code = "too_deep"
	CodeTooMany       gantry.Code = "too_many_records"
	CodeBadKey        gantry.Code = "bad_key"
	CodeOtherBucket   gantry.Code = "other_bucket"
)

const (
	maxMessage   = 256 << 10 // bytes of a message
	maxRecords   = 1000      // of a message
	maxDepth     = 24        // of its JSON, each envelope by itself
	maxEnvelopes = 3         // inside one another
	maxSequencer = 64        // hexadecimal digits
)

// event is what one record of a notification says, in whatever dialect. It is a hint: nothing of it but
// the key is believed before the bucket was asked.
type event struct {
	bucket  string
	keys    []string // what its key may mean, the likeliest first
	etag    string   // without quotes; may be empty
	version string   // empty: the bucket keeps none, or the sender does not say
	order   string   // see orderOf
	at      time.Time
	by      gantry.Channel
}

// told is what one message says.
type told struct {
	events  []event
	ignored int         // events of other kinds: removals, restores, tests
	code    gantry.Code // of records that make no sense, beside the others
	at      time.Time   // of the newest record
}

// record is one entry of Records (AWS: event message structure 2.x), as AWS, MinIO, versitygw and Ceph send it.
type record struct {
	Source string `json:"eventSource"`
	Name   string `json:"eventName"`
	Time   string `json:"eventTime"`
	S3     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			ETag      string `json:"eTag"`
			VersionID string `json:"versionId"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"s3"`
}

// bridged is a notification as EventBridge passes it on.
type bridged struct {
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
	Time       string `json:"time"`
	Detail     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			ETag      string `json:"etag"`
			VersionID string `json:"version-id"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"detail"`
}

// message is every form that a message can have; which one it is, its keys tell.
type message struct {
	Records []json.RawMessage `json:"Records"`
	Event   string            `json:"Event"` // of AWS's test: s3:TestEvent

	Type    string  `json:"Type"` // of SNS
	Message *string `json:"Message"`

	DetailType string `json:"detail-type"` // of EventBridge
	Source     string `json:"source"`
}

// parse reads a message: what S3 sends, by itself or in an envelope of SNS or EventBridge. An error is
// Illegal and quotes nothing.
func parse(body []byte) (told, error) {
	for range maxEnvelopes {
		if len(body) > maxMessage {
			return told{}, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read notification: over the limit of %d bytes", maxMessage)
		}
		if tooDeep(body) {
			return told{}, gantry.Errorf(gantry.Illegal, CodeTooDeep, "read notification: more than %d levels deep", maxDepth)
		}
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			return told{}, unreadable(body)
		}
		switch {
		case m.Records != nil:
			return readRecords(m.Records)
		case m.DetailType != "" && m.Source == "aws.s3":
			return readBridged(body)
		case m.Event == "s3:TestEvent":
			return told{ignored: 1}, nil
		case m.Type == "Notification" && m.Message != nil:
			body = []byte(*m.Message)
		default:
			return told{}, notUnderstood()
		}
	}
	return told{}, notUnderstood()
}

func notUnderstood() error {
	return gantry.Errorf(gantry.Illegal, CodeNotUnderstood, "read notification: it is none of S3, SNS or EventBridge")
}

// unreadable tells what is no JSON from what is, with other types than ours.
func unreadable(body []byte) error {
	if json.Valid(body) {
		return notUnderstood()
	}
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read notification: it is no JSON")
}

// tooDeep tells whether JSON nests deeper than any notification does. What is no JSON is another's affair.
func tooDeep(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func readRecords(list []json.RawMessage) (told, error) {
	if len(list) > maxRecords {
		return told{}, gantry.Errorf(gantry.Illegal, CodeTooMany, "read notification: more than %d records", maxRecords)
	}
	var t told
	for _, raw := range list {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil || r.Name == "" {
			t.code = CodeNotUnderstood
			continue
		}
		name, prefixed := strings.CutPrefix(r.Name, "s3:")
		at := timeOf(r.Time)
		if at.After(t.at) {
			t.at = at
		}
		if !strings.HasPrefix(name, "ObjectCreated:") {
			t.ignored++
			continue
		}
		o := r.S3.Object
		aws := r.Source == "aws:s3" && !prefixed // versitygw says aws:s3 too, but with the prefix
		e := event{bucket: r.S3.Bucket.Name, keys: keysOf(o.Key, aws || r.Source == "minio:s3"), etag: strings.Trim(o.ETag, `"`), version: versionID(o.VersionID), at: at}
		if aws {
			e.order = orderOf(o.Sequencer)
		}
		t.add(e)
	}
	return t, nil
}

func readBridged(body []byte) (told, error) {
	var b bridged
	if err := json.Unmarshal(body, &b); err != nil {
		return told{}, notUnderstood()
	}
	t := told{at: timeOf(b.Time)}
	if b.DetailType != "Object Created" {
		t.ignored = 1
		return t, nil
	}
	o := b.Detail.Object
	t.add(event{bucket: b.Detail.Bucket.Name, keys: keysOf(o.Key, false), etag: strings.Trim(o.ETag, `"`), version: versionID(o.VersionID),
		order: orderOf(o.Sequencer), at: t.at})
	return t, nil
}

// add takes an event whose parts can be what they are said to be.
func (t *told) add(e event) {
	switch {
	case e.bucket == "" || len(e.keys) == 0:
		t.code = CodeNotUnderstood
	case len(e.keys[0]) > maxKey || len(e.etag) > maxKey || len(e.version) > maxKey || strings.ContainsRune(e.etag, 0):
		t.code = CodeBadKey
	default:
		t.events = append(t.events, e)
	}
}

// keysOf gives what the key of an event may mean. AWS and MinIO encode it as a form does, versitygw and
// EventBridge do not, and of Ceph it depends on the release; the bucket tells which it is.
func keysOf(key string, encoded bool) []string {
	if key == "" {
		return nil
	}
	plain, err := url.QueryUnescape(key)
	switch {
	case err != nil || plain == "" || plain == key:
		return []string{key}
	case encoded:
		return []string{plain, key}
	}
	return []string{key, plain}
}

// versionID reads an id of a version; empty if there is none.
func versionID(id string) string {
	if id == noVersion {
		return ""
	}
	return id
}

var hexadecimal = regexp.MustCompile(`^[0-9A-Fa-f]+$`)

// orderOf makes a sequencer of AWS comparable as text: of two of one key, the greater is the later event. They are
// hexadecimal numbers without a length of their own, the shorter being filled up with zeros at its end; so those
// at the end say nothing. It is empty for what is no such number.
func orderOf(sequencer string) string {
	if len(sequencer) > maxSequencer || !hexadecimal.MatchString(sequencer) {
		return ""
	}
	return strings.TrimRight(strings.ToUpper(sequencer), "0")
}

// timeOf reads a time; zero if it is none.
func timeOf(s string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return at
}
