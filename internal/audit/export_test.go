package audit_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// some are two calls; the second is as hostile as names in a pipeline could make it.
func some() []postgres.CallRow {
	east := time.FixedZone("east", 2*3600)
	return []postgres.CallRow{
		{ID: "019", Task: "abc", Part: 3, Stage: "quality", Processor: "qa", Boundary: "processor", Operation: "process", Attempt: 1,
			Target: "http://127.0.0.1:1", StartedAt: time.Date(2026, 3, 1, 1, 30, 0, 5e6, east), DurationMS: 12.5, Status: 200, Outcome: "ok",
			RequestBytes: 1 << 40, Worker: 7},
		{ID: "01a", Stage: "=HYPERLINK(\"http://x\",\"a\")", Processor: "+1", Source: "-1", Sink: "@x", Target: " =1", Boundary: "a,\"b\"\nc",
			Operation: "\tx", StartedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)},
	}
}

func written(t *testing.T, f audit.Format, rows []postgres.CallRow) string {
	t.Helper()
	var b bytes.Buffer
	w, err := audit.NewWriter(&b, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || w.Written() != len(rows) {
		t.Fatalf("%d written: %v", w.Written(), err)
	}
	return b.String()
}

// inUTC is what a reader is to find.
func inUTC(rows []postgres.CallRow) []postgres.CallRow {
	for i := range rows {
		rows[i].StartedAt = rows[i].StartedAt.UTC()
	}
	return rows
}

// TestCSV reads it back by RFC 4180 and holds every column to the JSON of the same call.
func TestCSV(t *testing.T) {
	got := written(t, audit.CSV, some())
	if strings.Count(got, "\r\n") != 4 { // three lines, and the line feed within a field
		t.Errorf("lines end otherwise:\n%q", got)
	}
	lines, err := csv.NewReader(strings.NewReader(got)).ReadAll()
	if err != nil || len(lines) != 3 {
		t.Fatalf("%d lines: %v", len(lines), err)
	}
	b, err := json.Marshal(inUTC(some())[0])
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var call map[string]any
	if err := d.Decode(&call); err != nil {
		t.Fatal(err)
	}
	for i, name := range lines[0] {
		want := ""
		switch v := call[name].(type) {
		case string:
			want = v
		case json.Number:
			want = v.String()
		}
		if lines[1][i] != want {
			t.Errorf("%s is %q, in JSON %q", name, lines[1][i], want)
		}
		delete(call, name)
	}
	if len(call) != 0 {
		t.Errorf("CSV lacks %v", call)
	}
	if !strings.Contains(got, "2026-02-28T23:30:00.005Z,12.5,200,ok") || !strings.Contains(got, ",1099511627776,") {
		t.Errorf("times or numbers are wrong:\n%s", got)
	}
	for _, cell := range lines[2] {
		if s := strings.TrimLeft(cell, " "); s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
			t.Errorf("a spreadsheet would run %q", cell)
		}
	}
	if lines[2][3] != "'=HYPERLINK(\"http://x\",\"a\")" {
		t.Errorf("a text came back as %q", lines[2][3])
	}
}

// TestJSON reads both forms back, of none, one and two calls.
func TestJSON(t *testing.T) {
	for n := range 3 {
		rows := inUTC(some()[:n])
		got := []postgres.CallRow{}
		if err := json.Unmarshal([]byte(written(t, audit.JSON, rows)), &got); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Errorf("json of %d (-want +got):\n%s", n, diff)
		}
		got = []postgres.CallRow{}
		text := written(t, audit.NDJSON, rows)
		for line := range strings.Lines(text) {
			var c postgres.CallRow
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			got = append(got, c)
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Errorf("ndjson of %d (-want +got):\n%s", n, diff)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestErrorsOfWriting come out, at the latest at the end.
func TestErrorsOfWriting(t *testing.T) {
	for _, f := range []audit.Format{audit.CSV, audit.JSON, audit.NDJSON} {
		w, err := audit.NewWriter(full{}, f)
		if err == nil {
			err = w.Write(some()[0])
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			t.Errorf("%s: written to a full disk", f)
		}
	}
	if _, err := audit.NewWriter(full{}, "xml"); err == nil {
		t.Error("xml is a format")
	}
}
