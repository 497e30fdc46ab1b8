package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// TestSendCommit waits for the peer to say what it keeps, on the association on which it was asked.
func TestSendCommit(t *testing.T) {
	s := dimsetest.NewStudy(t, 3, 16)
	p := &pacs{
		store: func(*dimse.Association, int, dimse.StoreRequest) dimse.Response { return dimse.Response{} },
		commit: func(a *dimse.Association, c dimse.Commitment) dimse.Response {
			go func() {
				ctx := t.Context()
				answer := dimse.Commitment{Transaction: "1.2.3", Instances: c.Instances} // of another transaction
				_, _ = a.Report(ctx, answer)
				answer = dimse.Commitment{Transaction: c.Transaction, Instances: c.Instances[:1], Failed: []dimse.Failed{{Reference: c.Instances[1], Reason: 0x0213}}}
				if r, err := a.Report(ctx, answer); err != nil || r.Status != dimse.StatusSuccess {
					t.Errorf("report: %v, %v", r, err)
				}
			}()
			return dimse.Response{}
		},
	}
	address := p.serve(t, nil)
	args := []string{"send", address, "--commit", s.Files[0], s.Files[1], s.Files[2]}
	wantTyped(t, exitFailed, []string{"3 sent, 1 committed\n", "not committed: " + s.Files[1] + ": resource limitation (0x0213)\n",
		"not committed: " + s.Files[2] + ": the peer's answer does not speak of it\n"}, args...)
	p.commit = func(a *dimse.Association, c dimse.Commitment) dimse.Response {
		go func() { _, _ = a.Report(t.Context(), c) }()
		return dimse.Response{}
	}
	var list []delivery
	out := wantTyped(t, exitOK, nil, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 3 || list[2].Committed == nil || !*list[2].Committed {
		t.Errorf("%v\n%s", err, out)
	}
	p.commit = func(a *dimse.Association, c dimse.Commitment) dimse.Response {
		return dimse.Response{Status: dimse.StatusProcessing, Comment: "not today"}
	}
	wantTyped(t, exitFailed, []string{"the peer refuses: processing failure (0x0110): not today", "3 sent, 0 committed"}, args...)
	p.commit = func(a *dimse.Association, c dimse.Commitment) dimse.Response { return dimse.Response{} }
	wantTyped(t, exitFailed, []string{"no answer within 100ms"}, append(args, "--commit-wait", "100ms")...)
}

// TestSendCommitOrthanc hears Orthanc's answer, which comes on an association of its own.
func TestSendCommitOrthanc(t *testing.T) {
	port := dimsetest.FreePort(t)
	p := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"us": {AET: "GANTRY", Port: port}}})
	s := dimsetest.NewStudy(t, 2, 16)
	listen := "127.0.0.1:" + strconv.Itoa(port)
	wantTyped(t, exitOK, []string{"2 sent, 2 committed"}, "send", p.Address(), s.Dir, "--called", "ORTHANC", "--commit", "--commit-listen", listen, "--commit-wait", "20s")
	wantTyped(t, exitFailed, []string{"2 sent, 0 committed", "storage commitment: "}, "send", p.Address(), s.Dir, "--called", "ORTHANC", "--commit", "--commit-wait", "1s")
	wantTyped(t, exitUsage, []string{"--commit-listen: "}, "send", p.Address(), s.Dir, "--commit", "--commit-listen", fmt.Sprintf("127.0.0.1:%d", p.Port))
	none := dimsetest.Storescp(t, dimsetest.SCP{})
	wantTyped(t, exitFailed, []string{"2 sent, 0 committed", "no presentation context"}, "send", none.Address(), s.Dir, "--commit")
}
