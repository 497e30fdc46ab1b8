package dimse

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

var update = flag.Bool("update", false, "write the tables of docs/dicom-conformance.md anew")

//go:generate go test -run TestConformance -update .

const conformance = "../../docs/dicom-conformance.md"

// TestConformance holds the tables of the conformance statement about the upper layer to the code. With -update it writes them.
func TestConformance(t *testing.T) {
	for name, text := range map[string]string{"limits": limitsTable(), "implementation": implementationTable(), "refusals": refusalsTable(), "aborts": abortsTable()} {
		dimsetest.Block(t, conformance, name, text, *update)
	}
}

// markdown writes rows of cells below a head.
func markdown(head string, rows [][]string) string {
	lines := []string{"| " + head + " |", "|" + strings.Repeat("---|", strings.Count(head, "|")+1)}
	for _, r := range rows {
		lines = append(lines, "| "+strings.Join(r, " | ")+" |")
	}
	return strings.Join(lines, "\n")
}

func limitsTable() string {
	times := Timeouts{}.orDefault()
	seconds := func(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
	kib := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	return markdown("what | limit", [][]string{
		{"maximum length that is announced, of P-DATA-TF", kib(defaultMaxPDU)},
		{"taken for a peer that announces none", kib(assumedMaxPDU)},
		{"length of a P-DATA-TF that is sent, whatever the peer takes", kib(maxWrite)},
		{"length of A-ASSOCIATE-RQ and -AC", kib(maxAssociate)},
		{"presentation contexts of an association", fmt.Sprint(maxContexts)},
		{"transfer syntaxes of a context", fmt.Sprint(maxTransfers)},
		{"a command set", kib(maxSet)},
		{"a data set of C-FIND, N-ACTION and N-EVENT-REPORT", fmt.Sprintf("%s, %d elements, %d sequences within each other", kib(maxDataset), maxElements, maxDepth)},
		{"ARTIM: until an association is asked for, or answered", seconds(times.Associate)},
		{"between operations, as an acceptor", seconds(times.Idle)},
		{"for more bytes within a PDU or message, and for each write", seconds(times.Data)},
		{"for the response to an operation", seconds(times.Response)},
		{"for the answer to a release, and for the peer to close", seconds(times.Release)},
	})
}

func implementationTable() string {
	return markdown("what | value", [][]string{
		{"Implementation Class UID", implementationClass}, {"Implementation Version Name", implementationVersion},
	})
}

// refusalsTable is what is refused whoever asks.
func refusalsTable() string {
	row := func(when string, r *Rejection) []string {
		result := "1 rejected-permanent"
		if r.Transient {
			result = "2 rejected-transient"
		}
		_, text := r.meaning()
		return []string{when, result, fmt.Sprint(r.Source), fmt.Sprint(r.Reason), text}
	}
	return markdown("when | result | source | reason | meaning", [][]string{
		row("bit 0 of the protocol version is not set", rejectVersion()),
		row("another application context", rejectApplication()),
		row("more associations than the address has room for, or the process is about to end", rejectLimit()),
		row("the association cannot be judged", rejectNoReason()),
	})
}

func abortsTable() string {
	source := fmt.Sprintf("%d", abortProvider)
	return markdown("when | source | reason", [][]string{
		{"a PDU of an unknown type", source, fmt.Sprint(reasonUnrecognized)},
		{"a PDU that may not come in this state (PS3.8 table 9-10), a message that may not come", source, fmt.Sprint(reasonUnexpected)},
		{"a length, an item or a value that cannot be, or above a limit", source, fmt.Sprint(reasonBadValue)},
		{"a timer runs out, the process ends, a data set to be sent breaks off", fmt.Sprintf("%d", abortUser), fmt.Sprint(reasonNone)},
	})
}
