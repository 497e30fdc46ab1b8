package dicom

import (
	"context"
	"strconv"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Bounds of what an archive may answer to one question.
const (
	maxSeries = 10000   // of one study
	maxCount  = 1000000 // instances of one study
)

// querier is an archive that is asked over DICOM, on an association for each question.
type querier struct {
	peering
	egress gantry.Egress
}

// NewArchive makes an archive. A config that does not Check, or whose files cannot be read, is Illegal with code bad_config.
func NewArchive(_ context.Context, c ArchiveConfig, egress gantry.Egress) (gantry.Expecting, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open archive: %s: %s", p.Key, p.Text)
	}
	p, err := c.peer().peering()
	if err != nil {
		return nil, err
	}
	return &querier{peering: p, egress: egress}, nil
}

// Expect finds the study in the study root model (PS3.4 section C.6.2) and reads Number of Study Related Instances (0020,1208), or the
// series and reads Number of Series Related Instances (0020,1209). These are optional keys: where an archive leaves them empty, the counts of a study's
// series are added up, and where it counts no series either, the instances that it names are.
func (a *querier) Expect(ctx context.Context, study, series string) (n int, known bool, err error) {
	if !dicom.ValidUID(study) || series != "" && !dicom.ValidUID(series) {
		return 0, false, gantry.Errorf(gantry.Illegal, gantry.CodeBadUID, "ask archive: it is asked about what is no UID")
	}
	err = a.associated(ctx, func(f finder) error {
		if series == "" {
			if n, known, err = f.study(ctx, study); err != nil || known {
				return err
			}
		}
		n, known, err = f.series(ctx, study, series)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	return n, known, nil
}

// associated opens an association, does something on it and ends it. All that is said on it is one request on record, with what became of it.
func (a *querier) associated(ctx context.Context, do func(finder) error) (err error) {
	conn, kept, err := a.dial(ctx, a.egress)
	if err != nil {
		return err
	}
	f := finder{}
	if kept != nil {
		if f.call, err = kept.Carry(ctx); err != nil {
			conn.Close()
			return err
		}
		defer func() { f.call.End(err) }()
	}
	f.Association, err = dimse.Request(ctx, conn, dimse.Params{Calling: a.calling, Called: a.called,
		Contexts: []dimse.Context{{Abstract: dimse.StudyRootFind, Transfer: []string{dimse.ExplicitLE, dimse.ImplicitLE}}}})
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, ok := f.Find(dimse.StudyRootFind, ""); !ok {
		return gantry.Errorf(gantry.Permanent, CodeNotAccepted, "ask archive: it does not answer queries of the study root model")
	}
	if err := do(f); err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(ctx, releaseWithin)
	defer cancel()
	f.Release(ending) // what was asked is known
	return nil
}

// finder asks on one association.
type finder struct {
	*dimse.Association
	call gantry.Carriage // nil where the way out keeps no record
}

// study asks for a study's own count. It is not known where the study is not, or the archive leaves it empty.
func (f finder) study(ctx context.Context, study string) (n int, known bool, err error) {
	err = f.query(ctx, "STUDY", dimse.Dataset{ui(0x0020, 0x000D, study), dimse.Text(0x0020, 0x1208, "IS", "")}, func(d dimse.Dataset) error {
		if d.Get(0x0020, 0x000D) == study {
			n, known = count(d.Get(0x0020, 0x1208))
		}
		return nil
	})
	return n, known, err
}

// series adds up the counts of a study's series, or gives that of one of them. It is not known where there are none.
func (f finder) series(ctx context.Context, study, only string) (n int, known bool, err error) {
	counts := map[string]int{} // 0: the archive does not say
	err = f.query(ctx, "SERIES", dimse.Dataset{ui(0x0020, 0x000D, study), ui(0x0020, 0x000E, only), dimse.Text(0x0020, 0x1209, "IS", "")}, func(d dimse.Dataset) error {
		s := d.Get(0x0020, 0x000E)
		if !dicom.ValidUID(s) || only != "" && s != only {
			return nil
		}
		counts[s], _ = count(d.Get(0x0020, 0x1209))
		return tooMany(len(counts), maxSeries)
	})
	for s, c := range counts {
		if err == nil && c == 0 {
			c, err = f.instances(ctx, study, s)
		}
		n += c
	}
	if err == nil {
		err = tooMany(n, maxCount)
	}
	return n, err == nil && n > 0, err
}

// instances counts those of a series that the archive names.
func (f finder) instances(ctx context.Context, study, series string) (int, error) {
	found := map[string]bool{}
	err := f.query(ctx, "IMAGE", dimse.Dataset{ui(0x0008, 0x0018, ""), ui(0x0020, 0x000D, study), ui(0x0020, 0x000E, series)}, func(d dimse.Dataset) error {
		if s := d.Get(0x0008, 0x0018); s != "" {
			found[s] = true
		}
		return tooMany(len(found), maxCount)
	})
	return len(found), err
}

// query asks at one level and hands on each match.
func (f finder) query(ctx context.Context, level string, keys dimse.Dataset, each func(dimse.Dataset) error) error {
	id := append(dimse.Dataset{dimse.Text(0x0008, 0x0052, "CS", level)}, keys...)
	r, err := f.Query(ctx, dimse.StudyRootFind, id, each)
	if err != nil {
		return err
	}
	if f.call != nil {
		f.call.Status(int(r.Status))
	}
	return findError(r.Status)
}

// findError says what the status of a C-FIND response means (PS3.4 section C.4.1.1.4); nil after a success.
func findError(s dimse.Status) error {
	switch {
	case s&0xff00 == dimse.StatusOutOfResources:
		return gantry.Errorf(gantry.Unavailable, CodeOutOfResources, "ask archive: status %04X: it has no room", uint16(s))
	case s&0xff00 == dimse.StatusMismatch, s&0xf000 == dimse.StatusCannotUnderstand:
		return gantry.Errorf(gantry.Permanent, CodeNotUnderstood, "ask archive: status %04X: it cannot answer the question", uint16(s))
	}
	if err := commonError(s); err != nil {
		return gantry.Errorf(err.Kind, err.Code, "ask archive: status %04X", uint16(s))
	}
	return nil
}

func tooMany(n, most int) error {
	if n > most {
		return gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "ask archive: its answer is longer than %d entries", most)
	}
	return nil
}

func ui(group, number uint16, value string) dimse.Element {
	return dimse.Text(group, number, "UI", value)
}

// count reads an IS that says how many there are.
func count(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxCount {
		return 0, false
	}
	return n, true
}
