package dicom

import (
	"cmp"
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/suyashkumar/dicom/pkg/uid"

	files "github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

var update = flag.Bool("update", false, "write the tables of docs/dicom-conformance.md anew")

//go:generate go test -run TestConformance -update .

const conformance = "../../../docs/dicom-conformance.md"

// TestConformance holds the tables of the conformance statement to the code. With -update it writes them.
func TestConformance(t *testing.T) {
	for name, text := range map[string]string{
		"roots": rootsTable(), "classes": classesTable(t), "syntaxes": syntaxesTable(), "rejections": rejectionsTable(), "stored": storedTable(),
		"commitment": commitmentTable(), "sent": statusTable("the object is", "delivered", asError(storeError)), "found": statusTable("the question is", "answered", findError), "source": configTable(SourceConfig{}), "processor": configTable(ProcessorConfig{}), "sink": configTable(SinkConfig{}), "archive": configTable(ArchiveConfig{}), "tls": tlsTable(),
	} {
		dimsetest.Block(t, conformance, name, text, *update)
	}
}

// table writes rows below a head.
func table(head string, rows ...string) string {
	return "| " + head + " |\n|" + strings.Repeat("---|", strings.Count(head, "|")+1) + "\n" + strings.Join(rows, "\n")
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

func rootsTable() string {
	var rows []string
	for _, root := range storageRoots {
		rows = append(rows, row(root+"…", "all below"))
	}
	for _, class := range storageOthers {
		rows = append(rows, row(class, standardName(class)))
	}
	return table("UID | storage classes", rows...)
}

// standardName is what the standard calls a UID.
func standardName(u string) string {
	if x, err := uid.Lookup(u); err == nil {
		return strings.TrimSuffix(x.Name, " (Retired)")
	}
	return laterNames()[u]
}

// laterNames are those of transfer syntaxes that came after the library's edition (PS3.6 annex A).
func laterNames() map[string]string {
	return map[string]string{
		"1.2.840.10008.1.2.1.98": "Encapsulated Uncompressed Explicit VR Little Endian", "1.2.840.10008.1.2.4.100.1": "Fragmentable MPEG2 Main Profile / Main Level",
		"1.2.840.10008.1.2.4.101.1": "Fragmentable MPEG2 Main Profile / High Level", "1.2.840.10008.1.2.4.102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
		"1.2.840.10008.1.2.4.103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", "1.2.840.10008.1.2.4.104.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
		"1.2.840.10008.1.2.4.105.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", "1.2.840.10008.1.2.4.106.1": "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
		"1.2.840.10008.1.2.4.107": "HEVC/H.265 Main Profile / Level 5.1", "1.2.840.10008.1.2.4.108": "HEVC/H.265 Main 10 Profile / Level 5.1",
		"1.2.840.10008.1.2.4.110": "JPEG XL Lossless", "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression", "1.2.840.10008.1.2.4.112": "JPEG XL",
		"1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 (Lossless Only)", "1.2.840.10008.1.2.4.202": "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)",
		"1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000", "1.2.840.10008.1.2.4.204": "JPIP HTJ2K Referenced", "1.2.840.10008.1.2.4.205": "JPIP HTJ2K Referenced Deflate",
		"1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
	}
}

// classesTable asks of every UID where classes are, and wants the names of those that the code takes.
func classesTable(t *testing.T) string {
	t.Helper()
	var rows []string
	for _, x := range standardClasses() {
		storage := strings.Contains(x.Name, "Storage")
		took := accept(dimse.Context{Abstract: x.UID, Transfer: []string{dimse.ImplicitLE}}, true) >= 0
		if took != storage && !strings.Contains(x.Name, "Trial") && x.UID != dimse.StorageCommitment { // those on trial never became part of it
			t.Errorf("%s, %s: taken is %t", x.UID, x.Name, took)
		}
		if took {
			rows = append(rows, row(standardName(x.UID), x.UID))
		}
	}
	if len(rows) < 100 {
		t.Errorf("%d classes", len(rows))
	}
	return table("SOP class | UID", rows...)
}

// standardClasses are those that the library knows of where the standard has its classes, in the order of their numbers.
func standardClasses() (all []uid.Info) {
	for _, u := range slices.Concat(candidates("1.2.840.10008.5.1.4.1.1", 700, 99, 6), candidates("1.2.840.10008.5.1.4.1.1.77.1", 10, 10), candidates("1.2.840.10008.5.1.4", 80, 20)) {
		if x, err := uid.Lookup(u); err == nil && x.Type == uid.TypeSOPClass && x.Name != "" {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b uid.Info) int {
		return slices.CompareFunc(strings.Split(a.UID, "."), strings.Split(b.UID, "."), func(x, y string) int {
			return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
		})
	})
	return slices.Compact(all)
}

// candidates are the UIDs of as many more numbers below a root, from 0 up to the given ones, in their order.
func candidates(root string, most ...int) (all []string) {
	if len(most) == 0 {
		return nil
	}
	for n := range most[0] + 1 {
		u := root + "." + strconv.Itoa(n)
		all = append(append(all, u), candidates(u, most[1:]...)...)
	}
	return all
}

func syntaxesTable() string {
	var rows []string
	for _, u := range append([]string{"1.2.840.10008.1.2"}, candidates("1.2.840.10008.1.2", 10, 255, 9)...) {
		if !files.KnownSyntax(u) {
			continue
		}
		native := "storage"
		if accept(dimse.Context{Abstract: dimse.Verification, Transfer: []string{u}}, false) == 0 {
			native = "storage, Verification, Storage Commitment"
		}
		rows = append(rows, row(standardName(u), u, native))
	}
	return table("transfer syntax | UID | for", rows...)
}

// rejectionsTable asks a door, as a peer would.
func rejectionsTable() string {
	d := &door{titles: map[string]*title{
		"GANTRY": {name: "GANTRY", peers: map[caller]int{}, stands: []stand{{Place: Place{Allow: []Allowed{{AET: "ECHO1"}}, Most: 1}}}},
	}}
	var rows []string
	for _, x := range []struct{ why, calling, called string }{
		{"the called AE title is none at the address", "ECHO1", "OTHER"},
		{"the calling AE title, the network or the certificate is not in `allow`", "OTHER", "GANTRY"},
		{"", "ECHO1", "GANTRY"},
		{"`max_associations`, or `max_per_peer`, are open", "ECHO1", "GANTRY"},
	} {
		if _, r, _ := d.enter(dimse.Peer{Calling: x.calling, Called: x.called}); r != nil {
			result := "1 rejected-permanent"
			if r.Transient {
				result = "2 rejected-transient"
			}
			rows = append(rows, row(x.why, result, strconv.Itoa(int(r.Source)), strconv.Itoa(int(r.Reason))))
		}
	}
	return table("when | result | source | reason", append(rows,
		row(fmt.Sprintf("%d associations are open at the address, or the process is about to end", maxDoor), "2 rejected-transient", "3", "2"))...)
}

// storedTable asks for the answer to everything that an instance can be refused for.
func storedTable() string {
	rows := []string{row("0000", "success", "the bytes are on the disk, and the row is committed", "")}
	for _, x := range []struct {
		when string
		err  error
	}{
		{"disk, blob store or database cannot take it now: the sender should try again", gantry.Errorf(gantry.Unavailable, "…", "")},
		{"the data set's SOP class is not that of the command", gantry.Errorf(gantry.Illegal, codeClassMismatch, "")},
		{"the data set's SOP Instance UID is not that of the command", gantry.Errorf(gantry.Illegal, codeInstanceMismatch, "")},
		{"the data set is refused by the scanner, for one of the [reasons](reasons.md)", gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "")},
		{"it is larger than `max_mib`", gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "")},
		{"a UID of the command is none", gantry.Errorf(gantry.Illegal, codeBadUID, "")},
		{"other bytes came before under its UID, and `duplicates: refuse`", gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "")},
		{"no rule (`when`, `routes`) takes it: it is what it should be, and not for this AE title", gantry.Errorf(gantry.Illegal, gantry.CodeNoRoute, "")},
		{"nobody at the AE title waits for it (calling AE)", gantry.Errorf(gantry.Denied, codeNobody, "")},
	} {
		r := refusal(x.err)
		comment := "`" + r.Comment + "`"
		if r.Comment == "…" {
			comment = "of the kind of trouble"
		}
		rows = append(rows, row(fmt.Sprintf("%04X", uint16(r.Status)), classOf(r.Status), x.when, comment))
	}
	return table("status | class | when | comment", rows...)
}

func classOf(s dimse.Status) string {
	return []string{"success", "warning", "failure", "cancel", "pending"}[s.Class()]
}

func commitmentTable() string {
	var pauses []string
	for _, p := range reportAfter {
		pauses = append(pauses, shortly(p))
	}
	status := func(code gantry.Code) string {
		return fmt.Sprintf("%04X", uint16(owingStatus(gantry.Errorf(gantry.Unavailable, code, ""))))
	}
	return table("what | value", row("failure reason of an instance that is not on record", fmt.Sprintf("%04X", reasonNoInstance)),
		row("status of an N-ACTION when the requests that wait are too many", status(gantry.CodeTooMany)),
		row("status of an N-ACTION that the database cannot take now", status("")),
		row("status of an N-ACTION with a transaction UID that the peer used for other instances", status(gantry.CodeDuplicate)),
		row("requests that wait for their first try, at most, in one process", strconv.Itoa(maxReports)),
		row("pauses between the tries of a report, the last again and again", strings.Join(pauses, ", ")),
		row("bound of one try", shortly(reportWithin)), row("a report is given up after", shortly(reportUntil)),
		row("after the end of the process that made it, a report is another's within", shortly(reportHold+lookForOwed)))
}

// shortly is a duration in its largest unit that is whole.
func shortly(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// asError gives a status's error as one that may be nil.
func asError(of func(dimse.Status) *gantry.Error) func(dimse.Status) error {
	return func(s dimse.Status) error {
		if err := of(s); err != nil {
			return err
		}
		return nil
	}
}

// meaning is what is made of a status.
type meaning struct{ class, what, code string }

// statusTable asks what is made of every status, and puts those together that mean the same.
func statusTable(what, good string, mean func(dimse.Status) error) string {
	of := func(s int) meaning {
		m := meaning{class: classOf(dimse.Status(s)), what: good}
		if m.class == "warning" {
			m.what += "; the warning is on record"
		}
		if err := mean(dimse.Status(s)); err != nil {
			m.what, m.code = "failed", "`"+string(gantry.CodeOf(err))+"`"
			if gantry.KindOf(err).Retryable() {
				m.what = "tried again"
			}
		}
		return m
	}
	spans := map[meaning][]string{}
	var order []meaning
	for from, s := 0, 1; s <= 0x10000; s++ {
		if s < 0x10000 && of(s) == of(from) {
			continue
		}
		m, text := of(from), fmt.Sprintf("%04X", from)
		if s-1 > from {
			text += fmt.Sprintf("–%04X", s-1)
		}
		if len(spans[m]) == 0 {
			order = append(order, m)
		}
		spans[m], from = append(spans[m], text), s
	}
	var rows []string
	for _, m := range order {
		list := spans[m]
		if len(list) > 8 {
			list = []string{"all others"}
		}
		rows = append(rows, row(strings.Join(list, ", "), m.class, m.what, m.code))
	}
	return table("status | class | "+what+" | code", rows...)
}

// configTable lists the keys of a config with their defaults.
func configTable(config any) string {
	return table("key | default | meaning", configRows("", reflect.TypeOf(config))...)
}

func configRows(prefix string, t reflect.Type) (rows []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		value := f.Tag.Get("default")
		switch {
		case f.Tag.Get("required") == "true":
			value = "must be set"
		case value == "" && f.Type.Kind() == reflect.Bool:
			value = "false"
		case value == "":
			value = "none"
		}
		rows = append(rows, row("`"+prefix+key+"`", value, strings.ReplaceAll(f.Tag.Get("doc"), "|", "\\|")))
		switch in := f.Type; {
		case in.Kind() == reflect.Slice && in.Elem().Kind() == reflect.Struct:
			rows = append(rows, configRows(prefix+key+"[].", in.Elem())...)
		case in.Kind() == reflect.Struct:
			rows = append(rows, configRows(prefix+key+".", in)...)
		}
	}
	return rows
}

func tlsTable() string {
	suites := map[string]bool{}
	c, err := clientTLS(TLSConfig{Use: true}, "peer")
	if err != nil {
		panic(err)
	}
	for _, id := range c.CipherSuites {
		suites[tls.CipherSuiteName(id)] = true
	}
	rows := []string{row("TLS 1.3", "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256"),
		row("TLS 1.2", strings.Join(slices.Sorted(maps.Keys(suites)), ", "))}
	return table("version | cipher suites", rows...)
}
