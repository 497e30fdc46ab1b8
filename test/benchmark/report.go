package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is one number and the bound that the design sets for it.
type figure struct {
	name  string
	value float64
	unit  string
	must  bound
	note  string
}

// bound is a limit from below or from above; the zero bound holds for everything.
type bound struct {
	op string
	n  float64
}

func atLeast(n float64) bound { return bound{"≥", n} }
func atMost(n float64) bound  { return bound{"≤", n} }

func (b bound) verdict(v float64) string {
	switch {
	case b.op == "":
		return ""
	case b.op == "≥" && v >= b.n, b.op == "≤" && v <= b.n:
		return "met"
	}
	return "missed"
}

func (b bound) String() string {
	if b.op == "" {
		return "-"
	}
	return fmt.Sprintf("%s %g", b.op, b.n)
}

// report collects figures in the order in which they were measured.
type report struct{ figures []figure }

func (r *report) add(name string, value float64, unit string, must bound, note string, args ...any) {
	r.figures = append(r.figures, figure{name, value, unit, must, fmt.Sprintf(note, args...)})
}

func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tseen\tunit\tmust\t\tnote")
	for _, f := range r.figures {
		fmt.Fprintf(t, "%s\t%.4g\t%s\t%s\t%s\t%s\n", f.name, f.value, f.unit, f.must, f.must.verdict(f.value), f.note)
	}
	t.Flush()
}

// write makes one JSON object of names and numbers.
func (r *report) write(path string) error {
	all := map[string]float64{}
	for _, f := range r.figures {
		all[f.name] = f.value
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// quantile gives the q-th of the values, which it sorts; 0 if there are none.
func quantile[T ~int64 | ~float64](values []T, q float64) T {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
