package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

func TestFind(t *testing.T) {
	p := dimsetest.Dcmqrscp(t, dimsetest.Archive{})
	var studies []dimsetest.Study
	for range 3 {
		s := dimsetest.NewStudy(t, 2, 16)
		studies = append(studies, s)
		wantTyped(t, exitOK, []string{"2 sent"}, "send", p.Address(), s.Dir, "--called", "ARCHIVE")
	}
	find := func(more ...string) []string {
		return slices.Concat([]string{"find", p.Address(), "--called", "ARCHIVE"}, more)
	}
	out := wantTyped(t, exitOK, nil, find()...)
	for _, s := range studies {
		if !strings.Contains(out, s.UID) {
			t.Errorf("no %s in\n%s", s.UID, out)
		}
	}
	if !strings.HasPrefix(out, "PatientID") || strings.Count(out, "\n") != 4 {
		t.Errorf("%s", out)
	}
	out = wantTyped(t, exitOK, nil, find("--match", "StudyInstanceUID="+studies[1].UID, "--return", "PatientName,StudyDate", "--json")...)
	var list []map[string]string
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0]["StudyInstanceUID"] != studies[1].UID || list[0]["PatientName"] == "" {
		t.Errorf("%v\n%s", err, out)
	}
	if out = wantTyped(t, exitOK, nil, find("--limit", "1")...); strings.Count(out, "\n") != 2 {
		t.Errorf("not one:\n%s", out)
	}
	if out = wantTyped(t, exitOK, nil, find("-k", "PatientID=nobody", "--json")...); strings.TrimSpace(out) != "[]" {
		t.Errorf("somebody: %s", out)
	}
	if out = wantTyped(t, exitOK, nil, find("--level", "SERIES", "-k", "StudyInstanceUID="+studies[0].UID)...); strings.Count(out, "\n") != 2 {
		t.Errorf("series:\n%s", out)
	}
	wantTyped(t, exitOK, nil, find("--level", "PATIENT", "--root", "patient")...)
	// storescp answers no queries.
	s := dimsetest.Storescp(t, dimsetest.SCP{})
	wantTyped(t, exitFailed, []string{"no presentation context"}, "find", s.Address())
}

// TestFindOrthanc finds names in another character set, with numbers that the archive counts.
func TestFindOrthanc(t *testing.T) {
	p := dimsetest.Orthanc(t, dimsetest.Settings{})
	s := dimsetest.NewStudy(t, 3, 16)
	for _, f := range s.Files {
		dimsetest.Must(t, "dcmodify", "-nb", "-m", "SpecificCharacterSet=ISO_IR 100", "-m", "PatientName=M\xfcller^J\xfcrgen", f)
	}
	wantTyped(t, exitOK, []string{"3 sent"}, "send", p.Address(), s.Dir)
	wantTyped(t, exitOK, []string{"Müller^Jürgen", s.UID, "  3  "}, "find", p.Address())
	wantTyped(t, exitOK, []string{"Müller^Jürgen"}, "find", p.Address(), "-k", "PatientName=Mü*")
}

func TestFindUsage(t *testing.T) {
	for text, args := range map[string][]string{
		"no attribute":      {"--match", "PatientsName=x"},
		"KEYWORD=VALUE":     {"--match", "PatientName"},
		"each keyword once": {"--match", "PatientID=1", "--match", "PatientID=2"},
		"numbers in binary": {"--match", "Rows=512"},
		"cannot be asked":   {"--return", "ReferencedSeriesSequence"},
		"control":           {"--match", "PatientID=1\n"},
		"--root patient":    {"--level", "PATIENT"},
		"--level":           {"--level", "FRAME"},
		"--limit":           {"--limit", "-1"},
	} {
		wantTyped(t, exitUsage, []string{text}, slices.Concat([]string{"find", "127.0.0.1:1"}, args)...)
	}
}
