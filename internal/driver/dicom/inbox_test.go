package dicom

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// cameAs is an image as a peer handed it in, of n bytes of pixels.
func cameAs(t testing.TB, blobs gantry.Blobs, n int) *Instance {
	t.Helper()
	file, set := part10(classCT, "2.25.1", dimse.ExplicitLE, n)
	staged, err := blobs.Stage(t.Context(), bytes.NewReader(file), -1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(staged.Discard)
	return &Instance{Peer: dimse.Peer{Calling: "PACS", Called: "GANTRY"}, Class: classCT, UID: "2.25.1", Transfer: dimse.ExplicitLE,
		Tags: map[string]string{"Modality": "CT", "StudyInstanceUID": "2.25.2"}, Size: int64(len(set)), SHA: gantry.Digest{1}, Staged: staged}
}

// TestDeskOfAnswers keeps what belongs to somebody, small or large, and leaves the rest to whoever is asked next.
func TestDeskOfAnswers(t *testing.T) {
	t.Parallel()
	blobs := store(t)
	a := archiveAt(t, &archive{}, nil)
	for _, size := range []int{0, 100_000, 9 << 20} {
		for of, mine := range map[gantry.Belongs]bool{gantry.Counts: true, gantry.TooLate: true, gantry.Known: true, gantry.Nobodys: false} {
			b := &box{blobs: blobs, wanted: true, belongs: of}
			_, desk, ok := processorTo(t, a, b, AwaitConfig{Modality: "CT", SOPClass: classCT}).Called()
			in := cameAs(t, blobs, size)
			was := in.Staged.Size()
			got, r := desk.Take(t.Context(), in)
			if !ok || got != mine || r.Status != dimse.StatusSuccess || len(b.took) != 1 {
				t.Fatalf("%s, %d bytes: mine %v, status %04X, %d taken", of, size, got, uint16(r.Status), len(b.took))
			}
			x := b.took[0]
			if x.Study != "2.25.2" || x.Instance != "2.25.1" || x.Size != was || x.SHA != in.SHA || x.Called != "GANTRY" || x.Calling != "PACS" {
				t.Errorf("taken as %+v", x)
			}
			if small := was <= gantry.InlineLimit; small != (x.Body != nil) || small == (x.Location != "") {
				t.Errorf("%d bytes are kept in %q and %d bytes", was, x.Location, len(x.Body))
			}
			if mine {
				continue
			}
			where, err := in.Staged.Commit(t.Context()) // the next desk
			if err != nil || x.Location != "" && where != x.Location {
				t.Errorf("the next desk keeps it at %q, not %q: %v", where, x.Location, err)
			}
			blob, err := blobs.Open(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			if kept, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size())); err != nil || int64(len(kept)) != was {
				t.Errorf("%d bytes are kept, %v", len(kept), err)
			}
			blob.Close()
		}
	}
}

// TestDeskAsksNobody leaves what cannot be an answer alone, without a look into the database.
func TestDeskAsksNobody(t *testing.T) {
	t.Parallel()
	blobs := store(t)
	a := archiveAt(t, &archive{}, nil)
	for name, change := range map[string]func(*Instance){
		"another caller":   func(in *Instance) { in.Peer.Calling = "CT1" },
		"another class":    func(in *Instance) { in.Class = "1.2.3" },
		"another modality": func(in *Instance) { in.Tags["Modality"] = "MR" },
		"no study":         func(in *Instance) { in.Tags["StudyInstanceUID"] = "" },
		"no tags":          func(in *Instance) { in.Tags = nil },
	} {
		b := &box{blobs: blobs, wanted: true}
		_, desk, _ := processorTo(t, a, b, AwaitConfig{Modality: "CT", SOPClass: classCT}).Called()
		in := cameAs(t, blobs, 0)
		change(in)
		if mine, _ := desk.Take(t.Context(), in); mine || b.asked != 0 {
			t.Errorf("%s: mine %v, %d looks", name, mine, b.asked)
		}
	}
	b := &box{blobs: blobs}
	_, desk, _ := processorTo(t, a, b, AwaitConfig{}).Called()
	if mine, _ := desk.Take(t.Context(), cameAs(t, blobs, 100_000)); mine || b.asked != 1 || len(b.took) != 0 {
		t.Errorf("what nobody wants: mine %v, %d looks, %d taken", mine, b.asked, len(b.took))
	}
	if mine, _ := desk.Commit(t.Context(), dimse.Peer{}, dimse.Commitment{}); mine {
		t.Error("it commits to something")
	}
	if mine, _ := desk.Reported(t.Context(), dimse.Peer{}, dimse.Commitment{}); mine {
		t.Error("it asked for a commitment")
	}
}

// lost are blobs that cannot be read again.
type lost struct{ *box }

func (lost) Blob(context.Context, string) (gantry.Blob, error) { return nil, errAway }

// TestDeskFails answers so that the service sends again what could not be kept now, and not what cannot be understood.
func TestDeskFails(t *testing.T) {
	t.Parallel()
	blobs := store(t)
	a := archiveAt(t, &archive{}, nil)
	take := func(b gantry.Inbox, in *Instance) (bool, dimse.Response) {
		_, desk, _ := processorTo(t, a, b, AwaitConfig{}).Called()
		return desk.Take(t.Context(), in)
	}
	if mine, r := take(&box{blobs: blobs, err: errAway}, cameAs(t, blobs, 0)); !mine || r.Status != dimse.StatusOutOfResources {
		t.Errorf("no database: mine %v, status %04X", mine, uint16(r.Status))
	}
	if mine, r := take(lost{&box{blobs: blobs, wanted: true}}, cameAs(t, blobs, 100_000)); !mine || r.Status != dimse.StatusOutOfResources {
		t.Errorf("no blobs: mine %v, status %04X", mine, uint16(r.Status))
	}
	in := cameAs(t, blobs, 0)
	staged, err := blobs.Stage(t.Context(), bytes.NewReader([]byte("hello")), -1, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	in.Staged = staged
	if mine, r := take(&box{blobs: blobs, wanted: true}, in); !mine || r.Status != dimse.StatusCannotUnderstand || r.Comment != string(dicom.CodeNotDICOM) && r.Comment != string(gantry.CodeTruncated) {
		t.Errorf("what is no DICOM: mine %v, status %04X, %s", mine, uint16(r.Status), r.Comment)
	}
}
