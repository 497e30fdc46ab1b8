// Package audit hands out the record of calls in forms that other programs read, and proves from the record
// that rules were kept. Export.go writes calls as CSV, as JSON, or as one JSON object a line, each call as it
// comes; history.go holds transitions, parts and answers to the rules of the state machine; limits.go holds the
// times of calls to the limits of their targets.
package audit

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Format is how calls are written.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180, with a header; lines end with CR LF
	NDJSON Format = "ndjson" // one object a line
	JSON   Format = "json"   // one array
)

// Writer writes calls one after another. Columns are the fields of postgres.CallRow by their JSON names,
// in every format the same; numbers are numbers, and times are RFC 3339 in UTC.
type Writer struct {
	out    *bufio.Writer
	format Format
	csv    *csv.Writer
	cells  []string // of one line of CSV
	json   *json.Encoder
	n      int
}

// NewWriter begins a list of calls on w.
func NewWriter(w io.Writer, f Format) (*Writer, error) {
	x := &Writer{out: bufio.NewWriterSize(w, 64<<10), format: f}
	switch f {
	case CSV:
		x.csv = csv.NewWriter(x.out)
		x.csv.UseCRLF = true
		return x, x.csv.Write(columns())
	case NDJSON, JSON:
		x.json = json.NewEncoder(x.out)
		x.json.SetEscapeHTML(false)
		return x, nil
	}
	return nil, fmt.Errorf("write calls: no format %q", string(f))
}

// Write adds one call.
func (x *Writer) Write(c postgres.CallRow) error {
	c.StartedAt = c.StartedAt.UTC()
	x.n++
	if x.format == CSV {
		x.cells = cells(x.cells[:0], c)
		return x.csv.Write(x.cells)
	}
	if x.format == JSON {
		between := ","
		if x.n == 1 {
			between = "["
		}
		if _, err := x.out.WriteString(between); err != nil {
			return err
		}
	}
	return x.json.Encode(c)
}

// Close ends the list and writes what is still in memory. It does not close what it writes to.
func (x *Writer) Close() error {
	switch {
	case x.format == CSV:
		x.csv.Flush()
		if err := x.csv.Error(); err != nil {
			return err
		}
	case x.format == JSON && x.n == 0:
		x.out.WriteString("[]\n")
	case x.format == JSON:
		x.out.WriteString("]\n")
	}
	return x.out.Flush()
}

// Written is how many calls were written.
func (x *Writer) Written() int { return x.n }

// columns are the names of the fields of a call.
func columns() []string {
	var out []string
	for f := range reflect.TypeFor[postgres.CallRow]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

func cells(out []string, c postgres.CallRow) []string {
	for _, v := range reflect.ValueOf(c).Fields() {
		switch x := v.Interface().(type) {
		case string:
			out = append(out, harmless(x))
		case time.Time:
			out = append(out, x.Format(time.RFC3339Nano))
		case float64:
			out = append(out, strconv.FormatFloat(x, 'f', -1, 64))
		default:
			out = append(out, strconv.FormatInt(v.Int(), 10))
		}
	}
	return out
}

// harmless keeps a spreadsheet from taking a text for a formula: names of stages and targets come from
// files that others wrote. An apostrophe in front makes it a text.
func harmless(s string) string {
	if t := strings.TrimLeft(s, " "); t != "" && strings.ContainsRune("=+-@\t\r\n", rune(t[0])) {
		return "'" + s
	}
	return s
}
