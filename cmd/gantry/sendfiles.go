package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// gather looks at files, and at all that is below folders in the order of their names. What is below a folder and is no DICOM
// instance is skipped; what is named itself must be one.
func gather(paths []string) ([]*delivery, error) {
	var list []*delivery
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, usageError{err}
		}
		if !info.IsDir() {
			list = append(list, look(path, true))
			continue
		}
		err = filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
			if err != nil {
				d := &delivery{File: file}
				d.fail(err)
				list = append(list, d)
				return nil
			}
			if e.Type().IsRegular() {
				list = append(list, look(file, false))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// look sees what a file is. One that is to be sent has no outcome yet.
func look(path string, named bool) *delivery {
	d := &delivery{File: path}
	f, err := os.Open(path)
	if err != nil {
		d.fail(err)
		return d
	}
	defer f.Close()
	o, _, err := dicom.Split(f)
	switch {
	case err == nil:
		d.Class, d.Instance, d.Transfer = o.Class, o.Instance, o.Transfer
		if info, err := f.Stat(); err != nil {
			d.fail(err)
		} else if (info.Size()-o.At)%2 != 0 && o.Transfer != dimse.DeflatedLE {
			d.fail(gantry.Errorf(gantry.Illegal, dimse.CodeOddLength, "the data set has an odd number of bytes"))
		}
	case !named && notInstance(err):
		d.Outcome, d.Text = wasSkipped, "not DICOM"
	default:
		d.fail(err)
	}
	return d
}

// notInstance tells whether an error says that a file is none of DICOM's, and not that it is a broken one.
func notInstance(err error) bool {
	code := gantry.CodeOf(err)
	return code == dicom.CodeNotDICOM || code == gantry.CodeEmpty
}

// print writes what became of a file.
func (d *delivery) print(w io.Writer) {
	line := fmt.Sprintf("%-8s %s", d.Outcome, printable(d.File))
	if d.Text != "" {
		line += ": " + d.Text
	}
	fmt.Fprintln(w, line)
}

// summarize counts.
func summarize(w io.Writer, list []*delivery, asked bool) {
	counts, kept := map[string]int{}, 0
	for _, d := range list {
		counts[d.Outcome]++
		if d.Committed != nil && *d.Committed {
			kept++
		}
	}
	parts := []string{fmt.Sprintf("%d sent", counts[wasSent]+counts[wasWarned])}
	for _, o := range []struct{ outcome, one, many string }{{wasWarned, "warning", "warnings"}, {wasFailed, "failed", "failed"}, {wasSkipped, "skipped", "skipped"}} {
		if n := counts[o.outcome]; n > 0 {
			parts = append(parts, plural(n, o.one, o.many))
		}
	}
	if asked {
		parts = append(parts, fmt.Sprintf("%d committed", kept))
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
	for _, d := range list {
		if d.Committed != nil && !*d.Committed {
			fmt.Fprintf(w, "not committed: %s: %s\n", printable(d.File), d.Unkept)
		}
	}
}
