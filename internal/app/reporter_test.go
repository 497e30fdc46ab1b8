package app_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

const (
	classSR   = "1.2.840.10008.5.1.4.1.1.88.33"
	someStudy = "2.25.9000"
)

// el is a data element in explicit little endian.
func el(group, number uint16, vr, value string) []byte {
	if len(value)%2 == 1 {
		value += map[bool]string{true: "\x00", false: " "}[vr == "UI"]
	}
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, group), number)
	b = append(b, vr...)
	if vr == "SQ" || vr == "UT" {
		b = binary.LittleEndian.AppendUint32(append(b, 0, 0), uint32(len(value)))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	}
	return append(b, value...)
}

func itemOf(parts ...[]byte) string {
	b := bytes.Join(parts, nil)
	return string(binary.LittleEndian.AppendUint32([]byte{0xfe, 0xff, 0x00, 0xe0}, uint32(len(b)))) + string(b)
}

// report is the data set of an SR on a study, whose evidence are instances.
func report(study, instance, text string, refers ...string) []byte {
	var evidence string
	for _, r := range refers {
		evidence += itemOf(el(8, 0x1150, "UI", dicom.ClassCT), el(8, 0x1155, "UI", r))
	}
	parts := [][]byte{el(8, 0x16, "UI", classSR), el(8, 0x18, "UI", instance), el(8, 0x60, "CS", "SR"), el(0x10, 0x10, "PN", "Doe^Jane"),
		el(0x20, 0xd, "UI", study), el(0x20, 0xe, "UI", instance+".1"), el(0x40, 0xa040, "CS", "TEXT"), el(0x40, 0xa160, "UT", text)}
	if evidence != "" {
		series := itemOf(el(8, 0x1199, "SQ", evidence), el(0x20, 0xe, "UI", "2.25.9001"))
		parts = append(parts, el(0x40, 0xa375, "SQ", itemOf(el(8, 0x1115, "SQ", series), el(0x20, 0xd, "UI", study))))
	}
	return bytes.Join(parts, nil)
}

// slice is an image of a study.
func slice(t testing.TB, study string, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	img := dicom.Image{SOPClass: dicom.ClassCT, SOPInstance: instanceOf(n), StudyInstance: study, SeriesInstance: "2.25.9001", FrameOfReference: "2.25.9002",
		PatientName: "Doe^Jane", PatientID: "17", Rows: 4, Columns: 4, Samples: make([]uint16, 16), InstanceNumber: n, RescaleSlope: 1, Spacing: [2]float64{1, 1}, SliceThickness: 1}
	img.Samples[0] = uint16(n)
	if err := dicom.WriteImage(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func instanceOf(n int) string { return fmt.Sprintf("2.25.91%03d", n) }

// studyOf is an archive of n images.
func studyOf(t testing.TB, uid string, first, n int) []byte {
	t.Helper()
	var entries []entry
	for i := range n {
		entries = append(entries, entry{name: fmt.Sprintf("%03d.dcm", i), body: slice(t, uid, first+i)})
	}
	return packed(t, entries...)
}

// freePort is an address that nobody listens at.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// reporter is a model that speaks DICOM: it takes images and sends reports back on associations of its own.
type reporter struct {
	t      testing.TB
	addr   string
	listen string                                    // where answers go
	stored func(n int, instance string) dimse.Status // before the n-th image is acknowledged, counted from 1

	mu  sync.Mutex
	got []string // instances
}

func newReporter(t testing.TB, listen string) *reporter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{t: t, addr: l.Addr().String(), listen: listen}
	s := &dimse.Server{Admit: func(_ context.Context, p dimse.Proposal) (dimse.Terms, error) {
		if p.Called != "REPORTER" {
			return dimse.Terms{}, &dimse.Rejection{Source: 1, Reason: 7}
		}
		return dimse.Terms{Handler: r, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, 0) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// Store takes an image.
func (r *reporter) Store(_ context.Context, x dimse.StoreRequest) dimse.Response {
	if _, err := io.Copy(io.Discard, x.Data); err != nil {
		return dimse.Response{Status: dimse.StatusProcessing}
	}
	r.mu.Lock()
	r.got = append(r.got, x.Instance)
	n, stored := len(r.got), r.stored
	r.mu.Unlock()
	if stored != nil {
		return dimse.Response{Status: stored(n, x.Instance)}
	}
	return dimse.Response{}
}

// Commit, Reported and Ended are of no interest.
func (r *reporter) Commit(context.Context, dimse.Commitment) dimse.Response { return dimse.Response{} }
func (r *reporter) Reported(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{}
}
func (r *reporter) Ended(error) {}

func (r *reporter) images() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

// deliver sends a report by whoever calls whom, and gives the status.
func (r *reporter) deliver(calling, called, instance string, set []byte) (dimse.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.listen)
	if err != nil {
		return 0, err
	}
	a, err := dimse.Request(ctx, conn, dimse.Params{Calling: calling, Called: called, Contexts: []dimse.Context{{Abstract: classSR, Transfer: []string{dimse.ExplicitLE}}}})
	if err != nil {
		return 0, err
	}
	defer a.Abort()
	c, _ := a.Find(classSR, dimse.ExplicitLE)
	resp, err := a.Store(ctx, dimse.StoreRequest{Context: c, Class: classSR, Instance: instance, Data: bytes.NewReader(set)})
	if err == nil {
		err = a.Release(ctx)
	}
	return resp.Status, err
}

// sends sends a report on images of a study, and wants it to be taken.
func (r *reporter) sends(instance, study string, refers ...string) {
	r.t.Helper()
	if s, err := r.deliver("REPORTER", "GANTRY", instance, report(study, instance, "nothing found", refers...)); err != nil || s != dimse.StatusSuccess {
		r.t.Errorf("the report was answered by %04X, %v", uint16(s), err)
	}
}

// clinic is an installation whose one processor is a reporter.
type clinic struct {
	*yard
	*reporter
}

// newClinic makes one. await is what the pipeline says of answers, each how the stage calls.
func newClinic(t testing.TB, await, each string) *clinic {
	t.Helper()
	own, _ := t.(*testing.T)
	listen := freePort(t)
	c := &clinic{reporter: newReporter(t, listen)}
	c.yard = &yard{t: t, rig: &rig{t: own, dsn: postgrestest.DSN(t), out: t.TempDir(), log: &logBook{}}, farm: newFarm(t, 0), hook: newHook(t), in: t.TempDir(),
		drivers: all.Drivers(), check: signatures}
	host, port, _ := net.SplitHostPort(c.addr)
	c.text = head("clinic") + fmt.Sprintf(`
sources: {inbox: {kind: dir, path: %q, settle: 1ms}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: report, each: %s, call: reporter}]
processors: {reporter: {kind: dicom, host: %s, port: %s, aet: REPORTER, timeout: 30s, await: {modality: SR, listen: %q, %s}, limits: {concurrency: 2000}}}
`, c.in, c.out, each, host, port, listen, await)
	return c
}

// waiting waits until the reporter has n images and the task is parked.
func (c *clinic) waiting(n int) {
	c.yard.t.Helper()
	c.until("the reporter has the images", 20*time.Second, func() bool {
		return c.images() == n && c.count(`select count(*) from part where status = 1`) > 0
	})
	c.parked(1)
}

// outputs are the reports that a task delivered, by the text that they hold.
func (c *clinic) outputs(task string) (out []string) {
	c.yard.t.Helper()
	m, _ := manifestOf(c.rig.t, c.out, task)
	for _, o := range m.Outputs {
		b, err := os.ReadFile(filepath.Join(c.out, task, filepath.FromSlash(o.Path)))
		if err != nil {
			c.yard.t.Error(err)
			continue
		}
		info, err := dicom.Head(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			c.yard.t.Error(err)
			continue
		}
		out = append(out, info.SOPInstance)
		if o.Media != "application/dicom" || info.Modality != "SR" || !bytes.Contains(b, []byte("nothing found")) {
			c.yard.t.Errorf("delivered %s of %d bytes", o.Media, len(b))
		}
	}
	return out
}
