package s3

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What each server says of one object comes out alike.
func TestDialects(t *testing.T) {
	t.Parallel()
	const bucket = "echo-incoming"
	at := time.Date(2026, 11, 26, 8, 15, 30, 0, time.UTC)
	aws := event{bucket: bucket, keys: []string{"in/a b+ü.dcm", "in/a+b%2B%C3%BC.dcm"}, etag: "d41d8cd98f00b204e9800998ecf8427e",
		version: "096fKKXTRTtl3on89fVO.nfljtsv6qko", order: "0055AED6DCD90281E5", at: at.Add(123 * time.Millisecond)}
	bridge := event{bucket: bucket, keys: []string{"in/a b+ü.dcm", "in/a b ü.dcm"}, etag: "b1946ac92492d2347c6235b4d2611184",
		version: "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", order: "00617F08299329D189", at: at}
	for name, want := range map[string]event{
		"aws": aws, "sns": aws, "eventbridge": bridge, "sns-eventbridge": bridge,
		"minio": {bucket: bucket, keys: []string{"in/after notif+ü.dcm", "in%2Fafter+notif%2B%C3%BC.dcm"}, etag: "5eb63bbbe01eeed093cb22bb8f5acdc3",
			version: "5c3f8f64-6c1d-4a3f-9d8e-0d8c4a2b7f10", at: at.Add(123 * time.Millisecond)},
		"versitygw": {bucket: bucket, keys: []string{"in/a b+ü.dcm", "in/a b ü.dcm"}, etag: "5eb63bbbe01eeed093cb22bb8f5acdc3", at: at},
		"ceph":      {bucket: bucket, keys: []string{"in/a b+ü.dcm", "in/a b ü.dcm"}, etag: "5eb63bbbe01eeed093cb22bb8f5acdc3", at: at.Add(123456 * time.Microsecond)},
	} {
		got, err := parse(fixture(t, name))
		if err != nil || len(got.events) != 1 || fmt.Sprint(got.events[0]) != fmt.Sprint(want) || got.ignored != 0 || got.code != "" || !got.at.Equal(want.at) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"aws-removed", "aws-test", "versitygw-test", "eventbridge-deleted", "sns-test"} {
		if got, err := parse(fixture(t, name)); err != nil || len(got.events) != 0 || got.ignored != 1 || got.code != "" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if files, _ := filepath.Glob("testdata/events/*.json"); len(files) != 12 {
		t.Errorf("%d fixtures, of which 12 are tested", len(files))
	}
}

// Of several records each counts for itself: one that makes no sense takes no other with it.
func TestSeveralRecords(t *testing.T) {
	t.Parallel()
	one := func(name, key string) string {
		return fmt.Sprintf(`{"eventSource":"aws:s3","eventName":%q,"s3":{"bucket":{"name":"b"},"object":{"key":%q}}}`, name, key)
	}
	got, err := parse(fmt.Appendf(nil, `{"Records":[%s,%s,5,null,%s,%s,{"eventName":"ObjectCreated:Put"},%s]}`, one("ObjectCreated:Put", "a"),
		one("ObjectRemoved:Delete", "b"), one("ObjectCreated:Copy", "c"), one("ObjectRestore:Completed", "d"), one("ObjectCreated:Put", strings.Repeat("k", maxKey+1))))
	if err != nil || len(got.events) != 2 || got.events[0].keys[0] != "a" || got.events[1].keys[0] != "c" || got.ignored != 2 || got.code == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := parse([]byte(`{"Records":[]}`)); err != nil || len(got.events)+got.ignored != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// hostile are messages that tell of nothing, with the reason.
func hostile() map[string]gantry.Code {
	nested := `{"Type":"Notification","Message":"{}"}`
	for range 6 {
		nested = fmt.Sprintf(`{"Type":"Notification","Message":%q}`, nested)
	}
	return map[string]gantry.Code{
		"":                     gantry.CodeMalformed,
		"DOE^JANE":             gantry.CodeMalformed,
		"{":                    gantry.CodeMalformed,
		"\xff\xfe{}":           gantry.CodeMalformed,
		`{"Records":[`:         gantry.CodeMalformed,
		"null":                 CodeNotUnderstood,
		"5":                    CodeNotUnderstood,
		`[]`:                   CodeNotUnderstood,
		`{}`:                   CodeNotUnderstood,
		`{"Records":null}`:     CodeNotUnderstood,
		`{"Records":{}}`:       CodeNotUnderstood,
		`{"Records":"x"}`:      CodeNotUnderstood,
		`{"Event":"s3:Other"}`: CodeNotUnderstood,
		`{"Type":"SubscriptionConfirmation","Message":"You have chosen"}`: CodeNotUnderstood,
		`{"Type":"Notification"}`:                                        CodeNotUnderstood,
		`{"Type":"Notification","Message":"hello"}`:                      gantry.CodeMalformed,
		`{"detail-type":"Object Created","source":"my.app","detail":{}}`: CodeNotUnderstood,
		`{"detail-type":"Object Created","source":"aws.s3","detail":5}`:  CodeNotUnderstood,
		nested:                               CodeNotUnderstood,
		strings.Repeat("[", 100_000):         CodeTooDeep,
		strings.Repeat(`{"Records":`, 5_000): CodeTooDeep,
		`{"Records":[` + strings.TrimSuffix(strings.Repeat("{},", maxRecords+1), ",") + `]}`: CodeTooMany,
		strings.Repeat(" ", maxMessage) + "{}":                                               gantry.CodeTooLarge,
	}
}

func TestHostileMessages(t *testing.T) {
	t.Parallel()
	for body, want := range hostile() {
		began := time.Now()
		got, err := parse([]byte(body))
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != want || len(got.events) != 0 || strings.Contains(err.Error(), "DOE") {
			t.Errorf("%.60q: %v, %q, want %q", body, err, gantry.CodeOf(err), want)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%.60q took %s", body, took)
		}
	}
	for body, want := range map[string]gantry.Code{
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{}}}]}`:                          CodeNotUnderstood,
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"k"}}}]}`:                                       CodeNotUnderstood,
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k","eTag":"\u0000"}}}]}`: CodeBadKey,
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":5}}}]}`:                   CodeNotUnderstood,
		`{"detail-type":"Object Created","source":"aws.s3","detail":{"bucket":{"name":"b"}}}`:                               CodeNotUnderstood,
	} {
		if got, err := parse([]byte(body)); err != nil || got.code != want || len(got.events) != 0 {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

// Sequencers are compared as AWS says: the shorter is filled up with zeros on the right.
func TestOrder(t *testing.T) {
	t.Parallel()
	rising := []string{"0055AED6DCD9", "0055AED6DCD90281E4", "0055aed6dcd90281e5", "0055AED6DCD90281E51", "0055AED6DD", "0A"}
	for i := range rising[1:] {
		if a, b := orderOf(rising[i]), orderOf(rising[i+1]); a == "" || a >= b {
			t.Errorf("%q (%q) is not before %q (%q)", rising[i], a, rising[i+1], b)
		}
	}
	if a, b := orderOf("0055AED6DCD90281E5"), orderOf("0055aed6dcd90281e50000"); a != b {
		t.Errorf("%q, %q", a, b)
	}
	for _, none := range []string{"", "7x", "-1", "0x55", strings.Repeat("A", maxSequencer+1), "55 "} {
		if got := orderOf(none); got != "" {
			t.Errorf("%q: %q", none, got)
		}
	}
}

// No message makes the reader panic, give more than was sent, or keys that can be none.
func FuzzEvent(f *testing.F) {
	files, _ := filepath.Glob("testdata/events/*.json")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for body := range hostile() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parse(body)
		if err != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "" || len(got.events) > 0) {
			t.Errorf("%v", err)
		}
		if len(got.events)+got.ignored > min(maxRecords, 1+bytes.Count(body, []byte("{"))) {
			t.Errorf("%d events of %d bytes", len(got.events), len(body))
		}
		for _, e := range got.events {
			if e.bucket == "" || len(e.keys) == 0 || len(e.keys) > 2 || slices.Contains(e.keys, "") || strings.Trim(e.etag, `"`) != e.etag || strings.HasSuffix(e.order, "0") {
				t.Errorf("%+v", e)
			}
		}
	})
}
