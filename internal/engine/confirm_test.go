package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func (notarized) Picks(media string, manifest bool) bool {
	return media == gantry.MediaJSON && !manifest
}
func (notarized) NameOf(_ context.Context, d gantry.Delivery) (gantry.Digest, error) {
	return sha256.Sum256([]byte(d.Path)), nil
}
func (notarized) Tell(func(context.Context, gantry.Answer) (bool, error)) {}

const first, second = "id/s/000001.json", "id/s/000002.json"

var everything = []string{"id/_manifest.json", first, second, "pacs:" + first, "pacs:" + second}

// TestConfirmed parks the task while the answer is out, delivers nothing again, and ends it once everything is kept.
func TestConfirmed(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	tr, put := n.responds()
	if tr.Change != gantry.Park || tr.After != time.Minute || tr.Heard != 1 || tr.Kind != 0 || tr.Code != "" {
		t.Errorf("%+v", tr)
	}
	if diff := cmp.Diff(everything, put); diff != "" {
		t.Error(diff)
	}
	if len(n.rows) != 1 || !n.rows[0].Taken || n.rows[0].Count != 2 || n.rows[0].Sink != 1 || n.rows[0].Limiter != 10 || !strings.HasPrefix(n.rows[0].ID, "2.25.") {
		t.Errorf("%+v", n.rows)
	}
	for range 3 {
		if tr, put := n.responds(); tr.Change != gantry.Park || len(put) > 0 || len(n.confirmed) != 1 {
			t.Errorf("%+v, delivered %v, asked %v", tr, put, n.confirmed)
		}
	}
	n.answer()
	if tr, put := n.responds(); tr.To != gantry.Done || tr.Change != gantry.End || len(put) > 0 || n.answers != 1 {
		t.Errorf("%+v, delivered %v, %d on record", tr, put, n.answers)
	}
}

// TestConfirmedAtOnce misses no answer that comes while the request is made.
func TestConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.parks("asked", 1)
	n.answer()
	if n.count != 1 { // not the 0 that the park was made with
		t.Error(n.count)
	}
}

// TestNotConfirmed sends once more what is not kept, and fails when it is still not.
func TestNotConfirmed(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.parks("asked", 1)
	n.answer(second)
	tr, put := n.responds()
	if diff := cmp.Diff([]string{"pacs:" + second}, put); diff != "" || tr.Change != gantry.Park || len(n.rows) != 2 || n.rows[1].Try != 1 || n.rows[0].ID == n.rows[1].ID {
		t.Errorf("%+v\n%s", tr, diff)
	}
	n.answer(second)
	tr, put = n.responds()
	if tr.To != gantry.Failed || tr.Code != gantry.CodeNotCommitted || tr.Kind != gantry.Permanent || len(put) > 0 || tr.Detail != "sink pacs: its server keeps 1 of the 2 files" {
		t.Errorf("%+v, delivered %v", tr, put)
	}
	if n.answers != 2 {
		t.Errorf("%d answers on record", n.answers)
	}
	tr, put = n.responds() // an operator has it tried again
	if diff := cmp.Diff(everything, put); diff != "" || tr.Change != gantry.Park || len(n.rows) != 3 || n.rows[2].Try != 2 {
		t.Errorf("%+v\n%s", tr, diff)
	}
	n.rows[0].Answer = &gantry.Answer{Kept: 2, Names: n.rows[0].Names} // a late answer to a request that was given up counts
	if tr, _ := n.responds(); tr.To != gantry.Done {
		t.Errorf("%+v", tr)
	}
}

// TestConfirmedAfterResend is content with what the second delivery brought.
func TestConfirmedAfterResend(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.parks("asked", 1)
	n.answer(first, second)
	n.parks("asked again", 2)
	n.answer()
	if tr, _ := n.responds(); tr.To != gantry.Done {
		t.Errorf("%+v", tr)
	}
}

// TestSilent asks once more when the time is up, and then gives up.
func TestSilent(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.parks("asked", 1)
	n.rows[0].Waited = n.within
	n.parks("asked once more", 1)
	if len(n.confirmed) != 2 || n.confirmed[0] == n.confirmed[1] {
		t.Errorf("asked %v", n.confirmed)
	}
	n.rows[1].Waited = n.within / 2
	n.parks("half of the time", 1)
	n.rows[1].Waited = n.within
	if tr, put := n.responds(); tr.To != gantry.Failed || tr.Code != gantry.CodeNotCommitted || len(put) > 0 || !strings.Contains(tr.Detail, "2 files") || !n.rows[0].Over {
		t.Errorf("%+v, delivered %v", tr, put)
	}
}

// TestConfirmRepeats asks under the same id where nobody knows whether the request was taken: after an error, and after a death.
func TestConfirmRepeats(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.refuse = gantry.Errorf(gantry.Transient, "connection_lost", "the connection broke")
	if tr, _ := n.responds(); tr.Change != gantry.Retry || tr.Code != "connection_lost" || n.rows[0].Taken {
		t.Errorf("%+v", tr)
	}
	n.refuse, n.crash = nil, errors.New("killed")
	if tr, put := n.responds(); tr.Change != gantry.Retry || len(put) > 0 {
		t.Errorf("%+v, delivered %v", tr, put)
	}
	n.crash = nil
	n.parks("asked", 1)
	if len(n.rows) != 1 || len(n.confirmed) != 2 || n.confirmed[0] != n.confirmed[1] {
		t.Errorf("%d rows, asked %v", len(n.rows), n.confirmed)
	}
	n.refuse = gantry.Errorf(gantry.Permanent, "not_supported", "it does not do this")
	n.rows[0].Waited = n.within
	if tr, _ := n.responds(); tr.To != gantry.Failed || tr.Code != "not_supported" {
		t.Errorf("%+v", tr)
	}
}

// TestConfirmFenced asks nobody once the task is somebody else's.
func TestConfirmFenced(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.crash = gantry.ErrFenced
	if tr, _ := n.responds(); tr != (gantry.Transition{}) || len(n.confirmed) > 0 {
		t.Errorf("%+v, asked %v", tr, n.confirmed)
	}
}

// TestConfirmNothing asks nobody where nobody is to be asked, or there is nothing to ask about.
func TestConfirmNothing(t *testing.T) {
	t.Parallel()
	n := twoAnswers(t)
	n.within = 0
	if tr, put := n.responds(); tr.To != gantry.Done || len(put) != 5 {
		t.Errorf("%+v, delivered %v", tr, put)
	}
	n = twoAnswers(t)
	n.process = nil
	n.plan.Sinks[1].Sink = pickingNothing{n.plan.Sinks[1].Sink.(notarized)}
	if tr, put := n.responds(); tr.To != gantry.Done || len(put) != 3 || len(n.rows) != 0 {
		t.Errorf("%+v, delivered %v", tr, put)
	}
	n = twoAnswers(t)
	n.confirms = nil
	if tr, _ := n.responds(); tr.To != gantry.Failed || tr.Kind != gantry.Illegal {
		t.Errorf("%+v", tr)
	}
}

type pickingNothing struct{ notarized }

func (pickingNothing) Picks(string, bool) bool { return false }

// TestDecide goes through what may stand about a sink.
func TestDecide(t *testing.T) {
	t.Parallel()
	const w = time.Minute
	asked := func(taken bool, waited time.Duration, kept int32, failed int) gantry.Asked {
		a := gantry.Asked{Asking: gantry.Asking{Count: 2, Names: gantry.Digest{2}}, Taken: taken, Waited: waited}
		if kept >= 0 {
			a.Answer = &gantry.Answer{Kept: kept, Names: gantry.Digest{byte(kept)}, Failed: make([]gantry.Unconfirmed, failed)}
		}
		return a
	}
	over := asked(true, w, -1, 0)
	over.Over = true
	for i, c := range []struct {
		rows []gantry.Asked
		do   int
		wait time.Duration
	}{
		{nil, confirmAsk, 0},
		{[]gantry.Asked{over, over}, confirmAsk, 0},
		{[]gantry.Asked{asked(false, 0, -1, 0)}, confirmRepeat, 0},
		{[]gantry.Asked{asked(true, 0, -1, 0)}, confirmWait, w},
		{[]gantry.Asked{asked(true, w-1, -1, 0)}, confirmWait, time.Millisecond},
		{[]gantry.Asked{asked(true, w, -1, 0)}, confirmAsk, 0},
		{[]gantry.Asked{asked(true, w, -1, 0), asked(true, w, -1, 0)}, confirmLost, 0},
		{[]gantry.Asked{over, asked(true, w, -1, 0)}, confirmAsk, 0},
		{[]gantry.Asked{asked(true, w, 2, 0)}, confirmKept, 0},
		{[]gantry.Asked{asked(false, w, 2, 0)}, confirmKept, 0}, // the answer was quicker than the response
		{[]gantry.Asked{asked(true, w, 2, 0), asked(true, w, -1, 0)}, confirmKept, 0},
		{[]gantry.Asked{asked(true, 0, 1, 1)}, confirmResend, 0},
		{[]gantry.Asked{asked(true, 0, 1, 0)}, confirmResend, 0}, // it says less than it was asked
		{[]gantry.Asked{asked(true, 0, 3, 0)}, confirmResend, 0}, // it speaks of something else
		{[]gantry.Asked{asked(true, 0, 1, 1), asked(true, 0, -1, 0)}, confirmWait, w},
		{[]gantry.Asked{asked(true, 0, 1, 1), asked(true, w, -1, 0)}, confirmAsk, 0},
		{[]gantry.Asked{asked(true, 0, 1, 1), asked(true, 0, 1, 1)}, confirmLost, 0},
	} {
		if do, wait := decide(c.rows, w); do != c.do || wait != c.wait {
			t.Errorf("%d: %d, %s, want %d, %s", i, do, wait, c.do, c.wait)
		}
	}
}

// TestAnswerText is the same whatever order an answer came in.
func TestAnswerText(t *testing.T) {
	t.Parallel()
	x, y := gantry.Unconfirmed{Name: gantry.Digest{1}, Reason: 0x112}, gantry.Unconfirmed{Name: gantry.Digest{2}, Reason: 0x110}
	one, two := answerText(&gantry.Answer{Kept: 3, Failed: []gantry.Unconfirmed{x, y}}), answerText(&gantry.Answer{Kept: 3, Failed: []gantry.Unconfirmed{y, x}})
	want := fmt.Sprintf("kept 3 %064d\nfailed 01%062d 0112\nfailed 02%062d 0110\n", 0, 0, 0)
	if string(one) != want || string(two) != want {
		t.Errorf("%s\n%s", one, two)
	}
}
