package dimse

import (
	"strings"
	"testing"
)

// standard is PS3.8 table 9-10 row by row, as it is printed: one column for each of Sta1 to Sta13.
const standard = `
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
`

// ends is the next state of each action in PS3.8 tables 9-6 to 9-9; AE-6 and AR-8 have two.
const ends = `
AE-1 4  AE-2 5  AE-3 6  AE-4 1  AE-5 2  AE-6 3/13  AE-7 6  AE-8 13  DT-1 6  DT-2 6
AR-1 7  AR-2 8  AR-3 1  AR-4 13  AR-5 1  AR-6 7  AR-7 8  AR-8 9/10  AR-9 11  AR-10 12
AA-1 13  AA-2 1  AA-3 1  AA-4 1  AA-5 1  AA-6 13  AA-7 13  AA-8 13
`

// actionNames are the actions in the order of the constants.
var actionNames = strings.Fields(`. AE-1 AE-2 AE-3 AE-4 AE-5 AE-6 AE-7 AE-8 DT-1 DT-2
	AR-1 AR-2 AR-3 AR-4 AR-5 AR-6 AR-7 AR-8 AR-9 AR-10 AA-1 AA-2 AA-3 AA-4 AA-5 AA-6 AA-7 AA-8`)

var stateNames = strings.Fields("0 1 2 3 4 5 6 7 8 9 10 11 12 13")

func TestTableIsTheStandards(t *testing.T) {
	if len(actionNames) != int(acts) || events != 20 || states != 14 {
		t.Fatalf("%d actions, %d events, %d states", acts, events, states)
	}
	next := map[string]string{}
	for f := strings.Fields(ends); len(f) > 0; f = f[2:] {
		next[f[0]] = f[1]
	}
	rows := strings.Split(strings.TrimSpace(standard), "\n")
	cells := 0
	for i, row := range rows {
		f := strings.Fields(row)
		if len(f) != int(states) {
			t.Fatalf("row %d has %d columns", i+1, len(f)-1)
		}
		for s := sta1; s < states; s++ {
			cells++
			for _, requestor := range []bool{true, false} {
				m := machine{state: s, requestor: requestor, refuse: !requestor}
				did := actionNames[m.fire(evt(i+1))]
				if did != f[s] {
					t.Errorf("%s in Sta%d: %s, the standard says %s", f[0], s, did, f[s])
				}
				want := stateNames[s]
				if did != "." {
					want = next[did]
				}
				if first, second, two := strings.Cut(want, "/"); two {
					if want = second; requestor {
						want = first
					}
				}
				if stateNames[m.state] != want {
					t.Errorf("%s in Sta%d as requestor=%v: Sta%d comes, the standard says Sta%s", f[0], s, requestor, m.state, want)
				}
			}
		}
	}
	if cells != 19*13 {
		t.Errorf("looked at %d cells", cells)
	}
}

// TestEveryPDUHasItsEvent walks the types that a header can name.
func TestEveryPDUHasItsEvent(t *testing.T) {
	want := map[byte]evt{1: evtRQ, 2: evtAC, 3: evtRJ, 4: evtData, 5: evtReleaseRQ, 6: evtReleaseRP, 7: evtAborted}
	for kind := range 256 {
		h := pduHeader{kind: byte(kind), length: 6}
		e, known := want[byte(kind)]
		if !known {
			e = evtInvalid
		}
		if h.event() != e {
			t.Errorf("type %d is event %d", kind, h.event())
		}
		if f := h.check(100); !known && (f == nil || f.reason != reasonUnrecognized) {
			t.Errorf("type %d: %v", kind, f)
		}
	}
}
