package e2e

import (
	"flag"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

var update = flag.Bool("update", false, "write what peers said into docs/dicom-conformance.md anew")

// redactions take out of what peers wrote all that differs from run to run, and where it was.
var redactions = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`[IWET]\d{4} \d\d:\d\d:\d\d\.\d+ [\w.]+:\d+\] `), ""}, // Orthanc's prefix
	{regexp.MustCompile(`2\.25\.\d{20,}`), "2.25.…"},
	{regexp.MustCompile(`1\.2\.276\.0\.7230010\.3\.1\.4\.[\d.]+`), "1.2.276.0.7230010.3.1.4.…"},
	{regexp.MustCompile(`(/[\w.-]+)+/`), ""}, // folders
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "…"},
	{regexp.MustCompile(`(127\.0\.0\.1[: ]|port:? |localhost[: ])\d{5}\b`), "${1}PORT"},
	{regexp.MustCompile(`(?m)^D: (DcmDataset|DcmFileFormat|DcmItem|DcmElement|DcmMetaInfo|Constructing|Parsing an|setting network|DUL|PDU|DcmDataDictionary|DcmSequenceOfItems|  [0-9a-f]{2}  |Only dumping).*\n`), ""},
	{regexp.MustCompile(`(?m)^D: \$dcmtk.*\n|^D: *\n|(?m)[ \t]+$`), ""},
}

func redacted(text string) string {
	for _, r := range redactions {
		text = r.what.ReplaceAllString(text, r.by)
	}
	return strings.TrimSpace(text)
}

// said keeps what a peer wrote in the conformance statement; without -update it wants the statement to have it, where the peer is the
// version that wrote it.
func said(t *testing.T, block, command, text string) {
	t.Helper()
	page := "../../docs/dicom-conformance.md"
	if !*update && !strings.Contains(dimsetest.Run(t, "echoscu", "--version").Output, "v3.6.7") {
		t.Logf("another version of the peers than in %s: block %s is not compared", page, block)
		return
	}
	dimsetest.Block(t, page, block, "```\n$ "+command+"\n"+redacted(text)+"\n```", *update)
}

// lines gives those of a text that match, each once.
func lines(text, match string) string {
	var out []string
	re := regexp.MustCompile(match)
	for line := range strings.Lines(text) {
		line = redacted(line)
		if re.MatchString(line) && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// TestPeersSay has peers tell what they negotiate with gantry: as callers of a source, and as what the tools call.
func TestPeersSay(t *testing.T) {
	g := newGuests(t, ", allow: [{aet: CT1}], commit: true")
	at := []string{"127.0.0.1", strconv.Itoa(g.listen)}
	say := func(block, program string, args ...string) {
		t.Helper()
		shown := append([]string{program}, args...)
		said(t, block, strings.Join(shown, " ")+" 127.0.0.1 PORT", dimsetest.Run(t, program, append(args, at...)...).Output)
	}
	say("echoscu", "echoscu", "-d", "-aet", "CT1", "-aec", "GANTRY")
	say("rejected-calling", "echoscu", "-v", "-aet", "NOBODY", "-aec", "GANTRY")
	say("rejected-called", "echoscu", "-v", "-aet", "CT1", "-aec", "NOBODY")

	s := dimsetest.NewStudy(t, 1, 32)
	said(t, "dcmsend", "dcmsend -d -aet CT1 -aec GANTRY 127.0.0.1 PORT ct.dcm",
		dimsetest.Must(t, "dcmsend", slices.Concat([]string{"-d", "-aet", "CT1", "-aec", "GANTRY"}, at, s.Files)...))

	// gdcmscu 3.0.21 falls over an exception of its own once all is stored and the association released, whoever the peer is.
	more := dimsetest.NewStudy(t, 3, 32)
	dimsetest.Run(t, "gdcmscu", slices.Concat([]string{"--store", "--aetitle", "CT1", "--call", "GANTRY"}, at, more.Files)...)
	if n := openLedger(t, g.installation).count(t, `select count(*) from arrival`); n != 4 {
		t.Errorf("%d instances of dcmsend and gdcmscu are on record", n)
	}

	p := dimsetest.Storescp(t, dimsetest.SCP{AET: "PACS", Exact: true, Args: []string{"-d"}})
	g.output(t, "send", "--called", "PACS", "--calling", "GANTRY", p.Address(), s.Files[0])
	const begin, end = "D: ====================== BEGIN A-ASSOCIATE-RQ", "I: Association Release\n"
	eventually(t, 10*time.Second, "storescp to say all", func() bool { return strings.Contains(p.Output(), end) })
	text := p.Output()
	text = text[strings.LastIndex(text, begin):]
	said(t, "storescp", "storescp -d -aet PACS +B +xa PORT      # called by: gantry send --called PACS 127.0.0.1:PORT ct.dcm", text[:strings.Index(text, end)+len(end)])
}
