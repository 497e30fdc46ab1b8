package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
)

type findCmd struct {
	peerFlags
	Level  string   `help:"What is looked for: PATIENT, STUDY, SERIES or IMAGE." enum:"PATIENT,STUDY,SERIES,IMAGE" default:"STUDY"`
	Match  []string `short:"k" sep:"none" help:"What it must have, as in PatientID=4711 or StudyDate=20260101-; * and ? stand for any characters." placeholder:"KEYWORD=VALUE"`
	Return []string `short:"r" help:"What else is asked for, by keyword; without it what is usual for the level." placeholder:"KEYWORD,…"`
	Root   string   `help:"Information model: study or patient." enum:"study,patient" default:"study"`
	Limit  int      `help:"At most so many; the rest is cancelled. 0 is all." default:"0"`
	JSON   bool     `name:"json" help:"JSON instead of a table: each match by keyword."`
}

// usualKeys are asked for where nothing is said.
var usualKeys = map[string][]string{
	"PATIENT": {"PatientID", "PatientName", "PatientBirthDate", "PatientSex"},
	"STUDY":   {"PatientID", "PatientName", "StudyDate", "ModalitiesInStudy", "StudyDescription", "NumberOfStudyRelatedInstances", "StudyInstanceUID"},
	"SERIES":  {"Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances", "SeriesInstanceUID"},
	"IMAGE":   {"InstanceNumber", "SOPClassUID", "SOPInstanceUID"},
}

// errEnough ends a query that has brought as many matches as are wanted.
var errEnough = errors.New("enough")

// Run is called by the parser.
func (f *findCmd) Run(ctx context.Context, c console) error {
	if err := natural(f.Limit); err != nil {
		return err
	}
	identifier, columns, err := f.identifier()
	if err != nil {
		return err
	}
	class := map[string]string{"study": dimse.StudyRootFind, "patient": dimse.PatientRootFind}[f.Root]
	a, err := f.associate(ctx, []dimse.Context{{Abstract: class, Transfer: []string{dimse.ExplicitLE, dimse.ImplicitLE}}})
	if err != nil {
		return err
	}
	defer a.Abort()
	var list []map[string]string
	r, err := a.Query(ctx, class, identifier, func(d dimse.Dataset) error {
		match, err := matchOf(d)
		if err != nil {
			return err
		}
		if list = append(list, match); len(list) == f.Limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("%s as %s: %w", f.Address, f.Called, err)
	}
	release(a, f.Timeout)
	if err := f.print(c.out, columns, list); err != nil {
		return err
	}
	if class := r.Status.Class(); class != dimse.Success && !(class == dimse.Cancelled && errors.Is(err, errEnough)) {
		return fmt.Errorf("%s as %s: the query ended with %s", f.Address, f.Called, answerText(r))
	}
	return nil
}

// identifier is what is asked, and the keywords in the order in which they were named.
func (f *findCmd) identifier() (dimse.Dataset, []string, error) {
	if f.Level == "PATIENT" && f.Root == "study" {
		return nil, nil, usageError{errors.New("--level PATIENT needs --root patient")}
	}
	d := dimse.Dataset{dimse.Text(0x0008, 0x0052, "CS", f.Level)}
	var columns []string
	ascii := true
	add := func(keyword, value string) error {
		a, err := attribute(keyword, value)
		if err != nil || slices.Contains(columns, keyword) {
			return err
		}
		ascii = ascii && !strings.ContainsFunc(value, func(r rune) bool { return r >= 0x80 })
		columns = append(columns, keyword)
		d = append(d, dimse.Text(a.Group, a.Number, a.VR, value))
		return nil
	}
	var errs []error
	for _, k := range f.Match {
		keyword, value, ok := strings.Cut(k, "=")
		if !ok || slices.Contains(columns, keyword) {
			errs = append(errs, fmt.Errorf("--match %s: want KEYWORD=VALUE, each keyword once", keyword))
			continue
		}
		errs = append(errs, add(keyword, value))
	}
	more := f.Return
	if len(more) == 0 {
		more = usualKeys[f.Level]
	}
	for _, keyword := range more {
		errs = append(errs, add(keyword, ""))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, usageError{err}
	}
	if !ascii {
		d = append(d, dimse.Text(0x0008, 0x0005, "CS", "ISO_IR 192"))
	}
	return d, columns, nil
}

// attribute finds what a query may ask for.
func attribute(keyword, value string) (dicom.Attribute, error) {
	a, ok := dicom.AttributeOf(keyword)
	switch {
	case !ok:
		return a, fmt.Errorf("%s: no attribute has this keyword; keywords are as in PatientID, with their capitals", keyword)
	case a.VR == "SQ" || a.VR == "OB" || a.VR == "OW" || a.Keyword == "QueryRetrieveLevel" || a.Keyword == "SpecificCharacterSet":
		return a, fmt.Errorf("%s: cannot be asked for here", keyword)
	case value != "" && !a.Text():
		return a, fmt.Errorf("%s: has numbers in binary; it can be returned, not matched", keyword)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }):
		return a, fmt.Errorf("%s: the value holds control characters", keyword)
	}
	return a, nil
}

// matchOf is a match by keyword, in UTF-8.
func matchOf(d dimse.Dataset) (map[string]string, error) {
	b, err := d.Encode(dimse.ExplicitLE)
	if err != nil {
		return nil, fmt.Errorf("read a match: %w", err)
	}
	tags, err := dicom.TagsOf(b, dimse.ExplicitLE)
	if err != nil {
		return nil, fmt.Errorf("read a match: %w", err)
	}
	return tags, nil
}

// print writes the matches, in the order in which they came.
func (f *findCmd) print(w io.Writer, columns []string, list []map[string]string) error {
	if f.JSON {
		return printJSON(w, orEmpty(list))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	for _, match := range list {
		for i, keyword := range columns {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, printable(match[keyword]))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
