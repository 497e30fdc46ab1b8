package dicomweb

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// archive is one that is asked over HTTP.
type archive struct {
	root *url.URL
	rt   http.RoundTripper
}

// maxAnswer is what an archive may say about one study, in bytes.
const maxAnswer = 4 << 20

// NewArchive makes an archive. A config that does not Check is Illegal with code bad_config.
func NewArchive(_ context.Context, c ArchiveConfig, egress gantry.Egress) (gantry.Expecting, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open archive: %s: %s", p.Key, p.Text)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open archive: url: is no URL")
	}
	return &archive{root: u, rt: egress.Transport()}, nil
}

// Expect searches for the study (PS3.18 section 10.6.1.1, resource Studies) and reads Number of Study Related Instances (0020,1208),
// or for the series below it (Study's Series) and reads Number of Series Related Instances (0020,1209). An archive that finds the study and does not
// say how many there are is asked for its series, whose counts are added up.
func (a *archive) Expect(ctx context.Context, study, series string) (n int, known bool, err error) {
	if !dicom.ValidUID(study) || series != "" && !dicom.ValidUID(series) {
		return 0, false, gantry.Errorf(gantry.Illegal, gantry.CodeBadUID, "ask archive: it is asked about what is no UID")
	}
	if series != "" {
		return a.series(ctx, study, series)
	}
	found, _, err := a.search(ctx, a.root.JoinPath("studies"), url.Values{"StudyInstanceUID": {study}, "includefield": {tagOfStudy}})
	if n, known = found.count(tagStudy, study, tagOfStudy); err != nil || known || !found.holds(tagStudy, study) {
		return n, known, err
	}
	found, whole, err := a.search(ctx, a.below(study), url.Values{"includefield": {tagOfSeries}})
	if err != nil || !whole {
		return 0, false, err
	}
	n, known = found.count("", "", tagOfSeries)
	return n, known, nil
}

// series asks for one series. An archive may say that there is no such resource where it does not know the study; whether
// it has such resources at all, another question shows.
func (a *archive) series(ctx context.Context, study, series string) (n int, known bool, err error) {
	found, _, err := a.search(ctx, a.below(study), url.Values{"SeriesInstanceUID": {series}, "includefield": {tagOfSeries}})
	if gantry.KindOf(err) == gantry.NotFound {
		_, _, err = a.search(ctx, a.root.JoinPath("studies"), url.Values{"StudyInstanceUID": {study}})
		return 0, false, err
	}
	n, known = found.count(tagSeries, series, tagOfSeries)
	return n, known, err
}

// below is the resource of a study's series.
func (a *archive) below(study string) *url.URL { return a.root.JoinPath("studies", study, "series") }

// search sends one request and reads its matches; whole is false where the archive says that there are more. One that has none answers with
// an empty array, or 204.
func (a *archive) search(ctx context.Context, at *url.URL, query url.Values) (found matches, whole bool, err error) {
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, false, gantry.Errorf(gantry.Illegal, CodeBadConfig, "ask archive: its URL makes no request")
	}
	req.Header.Set("Accept", "application/dicom+json")
	req.Header.Set("User-Agent", "gantry")
	resp, err := a.rt.RoundTrip(req)
	if err != nil {
		return nil, false, asError(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusNoContent:
		return nil, true, nil
	default:
		return nil, false, refusal(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, false, asError(ctx, err)
	}
	found, err = parseMatches(body)
	more := resp.StatusCode == http.StatusPartialContent || strings.HasPrefix(resp.Header.Get("Warning"), "299")
	return found, !more, err
}

// asError gives errors of the way there a kind; their texts may hold the URL.
func asError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*gantry.Error](err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return gantry.Errorf(gantry.Timeout, "", "ask archive: there was no answer in time")
	}
	return gantry.Errorf(gantry.Transient, "", "ask archive: the connection broke")
}

// refusal says what a status means (RFC 9110 section 15).
func refusal(resp *http.Response) error {
	kind := gantry.Permanent
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		kind = gantry.Unavailable
	case code >= http.StatusInternalServerError:
		kind = gantry.Transient
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		kind = gantry.Denied
	case code == http.StatusNotFound:
		kind = gantry.NotFound
	case code < http.StatusBadRequest:
		kind = gantry.BadResponse
	}
	e := gantry.Errorf(kind, CodeRefused, "ask archive: status %d", resp.StatusCode)
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}
