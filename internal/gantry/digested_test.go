package gantry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestDigestOfARequest is that of the item that was all of it, and of no other.
func TestDigestOfARequest(t *testing.T) {
	t.Parallel()
	own, sent := gantry.Digest{1}, gantry.Digest{2}
	for name, c := range map[string]struct {
		out  gantry.Outcome
		mark gantry.ItemMark
		want []gantry.ItemMark
	}{
		"all of it":    {gantry.Outcome{ReqSize: 3, ReqSHA: sent}, gantry.ItemMark{ID: 7, Size: 3, Reason: "r", Sent: true}, []gantry.ItemMark{{ID: 7, SHA: sent, Size: 3, Reason: "r", Sent: true}}},
		"nothing":      {gantry.Outcome{ReqSHA: sent}, gantry.ItemMark{Sent: true}, []gantry.ItemMark{{SHA: sent, Sent: true}}},
		"a part of it": {gantry.Outcome{ReqSize: 4, ReqSHA: sent}, gantry.ItemMark{Size: 3, Sent: true}, []gantry.ItemMark{}},
		"not all sent": {gantry.Outcome{ReqSize: 2, ReqSHA: sent}, gantry.ItemMark{Size: 3, Sent: true}, []gantry.ItemMark{}},
		"never begun":  {gantry.Outcome{}, gantry.ItemMark{Sent: true}, []gantry.ItemMark{}},
		"its own":      {gantry.Outcome{ReqSize: 3, ReqSHA: sent}, gantry.ItemMark{SHA: own, Size: 3}, []gantry.ItemMark{{SHA: own, Size: 3}}},
	} {
		if diff := cmp.Diff(c.want, c.out.Digested([]gantry.ItemMark{c.mark})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := new(gantry.Outcome).Digested(nil); len(got) != 0 {
		t.Errorf("of nothing %v", got)
	}
	both := []gantry.ItemMark{{ID: 1, Sent: true}, {ID: 2, SHA: own, Size: 3}}
	if diff := cmp.Diff([]gantry.ItemMark{{ID: 2, SHA: own, Size: 3}}, (&gantry.Outcome{ReqSize: 3, ReqSHA: sent}).Digested(both)); diff != "" {
		t.Errorf("of two (-want +got):\n%s", diff)
	}
}
