package dimsetest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestStorescp sends a study to storescp on two associations at once, and finds its bytes again.
func TestStorescp(t *testing.T) {
	p := Storescp(t, SCP{AET: "KEEP", Fork: true, Exact: true, Args: []string{"-v"}})
	s := NewStudy(t, 3, 64)
	Must(t, "echoscu", slices.Concat([]string{"-aec", "KEEP"}, p.At())...)
	Must(t, "dcmsend", slices.Concat([]string{"-aec", "KEEP"}, p.At(), s.Files)...)
	files := p.Wait(t, 3)
	for i, uid := range s.Instances {
		at := slices.IndexFunc(files, func(f string) bool { return strings.HasSuffix(f, uid) })
		if at < 0 {
			t.Fatalf("slice %d did not come", i+1)
		}
		if !bytes.Equal(dataset(t, s.Files[i]), dataset(t, files[at])) {
			t.Errorf("slice %d: other bytes", i+1)
		}
	}
	if out := p.Output(); !strings.Contains(out, "Association Received") {
		t.Errorf("storescp wrote %q", out)
	}
}

// dataset is a file after its file meta information.
func dataset(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 144 || string(b[132:140]) != "\x02\x00\x00\x00UL\x04\x00" {
		t.Fatalf("%s: not a Part 10 file", file)
	}
	n := int(b[140]) | int(b[141])<<8 | int(b[142])<<16
	return b[144+n:]
}

// TestTLS wants storescp to take a caller with a certificate of its authority, and no other.
func TestTLS(t *testing.T) {
	a, b := NewAuthority(t), NewAuthority(t)
	server, friend, stranger := a.Issue(t, "peer"), a.Issue(t, "friend"), b.Issue(t, "stranger")
	late := a.IssueUntil(t, time.Now().Add(-time.Hour), "late")
	p := Storescp(t, SCP{TLS: &server})
	Must(t, "echoscu", slices.Concat(friend.Arguments(), p.At())...)
	for name, i := range map[string]Identity{"stranger": stranger, "late": late} {
		if r := Run(t, "echoscu", slices.Concat(i.Arguments(), p.At())...); r.Exit == 0 {
			t.Errorf("%s was taken", name)
		}
	}
	if r := Run(t, "echoscu", p.At()...); r.Exit == 0 {
		t.Error("a caller without TLS was taken")
	}
	c, err := tls.Dial("tcp", p.Address(), friend.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestDcmqrscp stores a study, finds it and has it moved to another peer.
func TestDcmqrscp(t *testing.T) {
	to := Storescp(t, SCP{AET: "KEEP"})
	p := Dcmqrscp(t, Archive{Know: map[string]*Peer{"KEEP": to}})
	s := NewStudy(t, 2, 32)
	Must(t, "storescu", slices.Concat([]string{"-aec", "ARCHIVE"}, p.At(), s.Files)...)
	query := []string{"-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=" + s.UID}
	out := Must(t, "findscu", slices.Concat([]string{"-aec", "ARCHIVE"}, query, []string{"-k", "NumberOfStudyRelatedInstances"}, p.At())...)
	if !strings.Contains(out, s.UID) {
		t.Errorf("findscu wrote\n%s", out)
	}
	Must(t, "movescu", slices.Concat([]string{"-aec", "ARCHIVE", "-aem", "KEEP"}, query, p.At())...)
	to.Wait(t, 2)
}

// TestOrthanc sends a study from one Orthanc to another, the second with DICOMweb, and asks that.
func TestOrthanc(t *testing.T) {
	to := Orthanc(t, Settings{AET: "PACS", DICOMweb: true})
	from := Orthanc(t, Settings{AET: "MODALITY", Modalities: map[string]Modality{"pacs": {"PACS", to.Port}}})
	s := NewStudy(t, 2, 32)
	for _, f := range s.Files {
		from.Load(t, f)
	}
	from.Send(t, "pacs", from.Studies(t)...)
	if n := len(to.Instances(t)); n != 2 {
		t.Fatalf("%d instances came", n)
	}
	var found []map[string]json.RawMessage
	to.Get(t, "/dicom-web/studies?StudyInstanceUID="+s.UID, &found)
	if len(found) != 1 {
		t.Errorf("%d studies by QIDO-RS", len(found))
	}
}

// TestGDCM sends by gdcmscu, whose version 3.0.21 in Debian 12 sends, gets its responses, releases the association and then falls over an
// exception of its own, whoever the peer is. So its exit code says nothing.
func TestGDCM(t *testing.T) {
	p := Storescp(t, SCP{})
	s := NewStudy(t, 3, 32)
	r := Run(t, "gdcmscu", slices.Concat([]string{"--store", "--call", "STORESCP"}, p.At(), s.Files)...)
	if r.Exit != 0 && !strings.Contains(r.Output, "ProtocolStream") {
		t.Errorf("gdcmscu ended with %d:\n%s", r.Exit, r.Output)
	}
	p.Wait(t, 3)
}

// TestStop wants no process of a peer left, and that a server which cannot start says why.
func TestStop(t *testing.T) {
	p, err := StartStorescp(t.TempDir(), SCP{Fork: true})
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	p.Stop()
	if p.listens() {
		t.Error("it still listens")
	}
	if _, err := StartStorescp(t.TempDir(), SCP{Args: []string{"--no-such-option"}}); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("a wrong option: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Find("storescp"); err == nil || !strings.Contains(err.Error(), "package dcmtk") {
		t.Errorf("without the program: %v", err)
	}
}

// TestStudy wants each study to be another, of files as long.
func TestStudy(t *testing.T) {
	d, err := Draw(14, 32)
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Write(t.TempDir(), 14)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Write(t.TempDir(), 14)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{a.UID: true, b.UID: true}
	for i, f := range append(a.Files, b.Files...) {
		seen[append(a.Instances, b.Instances...)[i]] = true
		out := Must(t, "dcmdump", "+P", "0020,000d", "+P", "0008,0018", "+P", "0002,0003", f)
		if i < 14 && (!strings.Contains(out, a.UID) || strings.Count(out, a.Instances[i]) != 2) {
			t.Errorf("slice %d: %s", i+1, out)
		}
	}
	if len(seen) != 30 {
		t.Errorf("%d UIDs", len(seen))
	}
}

// TestBlock writes a block of a page, and tells when it is stale.
func TestBlock(t *testing.T) {
	page := t.TempDir() + "/page.md"
	if err := os.WriteFile(page, []byte("a\n<!-- one: by hand -->\nold\n<!-- end of one -->\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale := &failing{TB: t}
	Block(stale, page, "one", "new", false)
	if !stale.failed {
		t.Error("it does not tell that the block is stale")
	}
	Block(t, page, "one", "new", true)
	Block(t, page, "one", "new", false)
	if b, _ := os.ReadFile(page); string(b) != "a\n<!-- one: by hand -->\n\nnew\n\n<!-- end of one -->\nb\n" {
		t.Errorf("it wrote %q", b)
	}
}

// failing is a test whose errors are noted and not counted.
type failing struct {
	testing.TB
	failed bool
}

// Errorf notes it.
func (f *failing) Errorf(string, ...any) { f.failed = true }
