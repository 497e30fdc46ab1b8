package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// instances is how many a sender has in TestKilledWhileReceiving, modalities how many there are at once.
const (
	instances  = 1000
	modalities = 4
)

// TestKilledWhileReceiving kills the process in the middle of a thousand instances that dcmsend sends on four associations. Each
// instance of which dcmsend saw that it was stored has an arrival, with the very bytes; what it did not see is sent again and
// comes once.
func TestKilledWhileReceiving(t *testing.T) {
	i := install(t)
	l := openLedger(t, i)
	address, pipeline := receiverFile(t)
	study := dimsetest.NewStudy(t, instances, 64)
	sums, parts := digests(t, study), make([]string, modalities)
	for k := range parts {
		parts[k] = t.TempDir()
	}
	for n, file := range study.Files {
		if err := os.Rename(file, filepath.Join(parts[n%modalities], filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	p := i.serve(t, pipeline, "--lease", lease)
	awaitEcho(t, address)
	stored := make([]map[string]bool, modalities)
	var g sync.WaitGroup
	for k, dir := range parts {
		g.Go(func() { stored[k] = sendAndSee(t, address, dir) })
	}
	eventually(t, time.Minute, "some of them to come", func() bool { return l.count(t, `select count(*) from arrival`) > instances/4 })
	p.kill()
	g.Wait()
	kept := keptObjects(t, i, l)
	seen := 0
	for _, uids := range stored {
		for uid := range uids {
			seen++
			if sum, ok := sums[uid]; !ok || !kept[sum] {
				t.Errorf("an instance that was acknowledged is not kept: %v", ok)
			}
		}
	}
	if seen < instances/8 || seen >= instances {
		t.Fatalf("%d of %d were acknowledged before the process died", seen, instances)
	}
	t.Logf("%d of %d were acknowledged, %d are kept", seen, instances, len(kept))
	p = i.serve(t, pipeline, "--lease", lease)
	again := 0
	for _, dir := range parts {
		awaitEcho(t, address)
		again += len(sendAndSee(t, address, dir))
	}
	if n := l.count(t, `select count(*) from arrival`); n != instances || again != instances {
		t.Errorf("%d arrivals of %d, %d were acknowledged", n, instances, again)
	}
	p.stop(t)
	if n := l.count(t, `select count(*) from arrival a where not exists (select from call_intent i join call_outcome o using (task_id, id) where i.arrival = a.id)`); n != 0 {
		t.Errorf("%d arrivals without a record of how they came", n)
	}
}

// TestDiskFullWhileReceiving: on a blob store that is full the sender is asked to try again, nothing is put on record that is not
// kept, and once there is room everything is taken. Where no small filesystem may be mounted, TestReceiveWithoutDatabase of the
// installation and TestFileSizeLimit of the blob store speak for it.
func TestDiskFullWhileReceiving(t *testing.T) {
	i := install(t)
	l := openLedger(t, i)
	blobs := filepath.Join(i.home, "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", blobs, "tmpfs", 0, "size=70m,mode=0700"); err != nil {
		t.Skipf("mount a small filesystem: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(blobs, unix.MNT_DETACH) })
	address, pipeline := receiverFile(t)
	study := dimsetest.NewStudy(t, 150, 512) // 79 MB, and the segment has room for 64
	p := i.serve(t, pipeline)
	awaitEcho(t, address)
	first := sendAndSee(t, address, study.Dir)
	if n := l.count(t, `select count(*) from arrival`); len(first) < 100 || len(first) >= 150 || n != len(first) {
		t.Errorf("%d were acknowledged and %d arrivals are there", len(first), n)
	}
	eventually(t, 20*time.Second, "the refusals to be seen", func() bool {
		return l.count(t, `select count(*) from source_state where error_code = 'no_space'`) == 1
	})
	if err := unix.Mount("tmpfs", blobs, "tmpfs", unix.MS_REMOUNT, "size=300m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	if again := sendAndSee(t, address, study.Dir); len(again) != 150 || l.count(t, `select count(*) from arrival`) != 150 {
		t.Errorf("with room again %d were acknowledged", len(again))
	}
	p.stop(t)
	if kept := keptObjects(t, i, l); len(kept) != 150 {
		t.Errorf("%d are kept", len(kept))
	}
}

// TestEightSenders sends CT slices on eight associations at once, and what Orthanc has: all of it is kept, and the process stays
// below 64 MB.
func TestEightSenders(t *testing.T) {
	i := install(t)
	l := openLedger(t, i)
	address, pipeline := receiverFile(t)
	p := i.serve(t, pipeline)
	awaitEcho(t, address)
	drawn, err := dimsetest.Draw(12, 512)
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	var came atomic.Int64
	for range 8 {
		study, err := drawn.Write(t.TempDir(), 25)
		if err != nil {
			t.Fatal(err)
		}
		g.Go(func() { came.Add(int64(len(sendAndSee(t, address, study.Dir)))) })
	}
	g.Wait()
	if n := l.count(t, `select count(*) from arrival`); came.Load() != 200 || n != 200 {
		t.Errorf("%d were acknowledged, %d are there", came.Load(), n)
	}
	if kb := peak(t, p.cmd.Process.Pid); kb > 64<<10 {
		t.Errorf("the process came to %d kB", kb)
	} else {
		t.Logf("the process came to %d kB", kb)
	}
	_, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	archive := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: number}}})
	study := dimsetest.NewStudy(t, 3, 64)
	var ids []string
	for _, file := range study.Files {
		ids = append(ids, archive.Load(t, file))
	}
	archive.Send(t, "gantry", ids...)
	if n := l.count(t, `select count(*) from arrival`); n != 203 {
		t.Errorf("%d are there after Orthanc sent three", n)
	}
	p.stop(t)
	kept := keptObjects(t, i, l)
	for uid, sum := range digests(t, study) {
		if !kept[sum] {
			t.Errorf("what Orthanc sent is not what it was given: %d bytes of UID", len(uid))
		}
	}
}

// peak is the most memory that a process ever had, in kB.
func peak(t *testing.T, pid int) (kb int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

// awaitEcho waits until the receiver answers.
func awaitEcho(t *testing.T, address string) {
	t.Helper()
	eventually(t, 20*time.Second, "an echo", func() bool {
		return dimsetest.Run(t, "echoscu", append([]string{"-aec", "GANTRY"}, strings.Split(address, ":")...)...).Exit == 0
	})
}

// receiverFile writes a pipeline that receives at an address and puts a study together for longer than the test goes on.
func receiverFile(t *testing.T) (address, file string) {
	t.Helper()
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	dir := folder(t)
	address, file = n.Addr().String(), filepath.Join(dir, "p.yaml")
	text := fmt.Sprintf(`gantry: v1
name: receive
sources: {modality: {kind: dicom, aet: GANTRY, listen: %q}}
group: {by: study, quiet: 1h, cap: 2h}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: "http://127.0.0.1:9/"}}
`, address, filepath.Join(dir, "out"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return address, file
}

// sendAndSee sends a folder by dcmsend and gives the UIDs of the instances that it was told are stored.
func sendAndSee(t *testing.T, address, dir string) map[string]bool {
	t.Helper()
	args := append([]string{"-d", "-aec", "GANTRY"}, append(strings.Split(address, ":"), "--no-halt", "+sd", dir)...)
	stored := map[string]bool{}
	response, uid := false, ""
	lines := bufio.NewScanner(strings.NewReader(dimsetest.Run(t, "dcmsend", args...).Output))
	for lines.Scan() {
		key, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "D: "), ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "Message Type":
			response = value == "C-STORE RSP"
		case "Affected SOP Instance UID":
			uid = value
		case "DIMSE Status":
			if response && strings.HasPrefix(value, "0x0000") {
				stored[uid] = true
			}
		}
	}
	return stored
}

// digests gives the SHA-256 of each instance's data set by its UID.
func digests(t *testing.T, s dimsetest.Study) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i, file := range s.Files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b[144+(int(b[140])|int(b[141])<<8):])
		out[s.Instances[i]] = hex.EncodeToString(sum[:])
	}
	return out
}

// keptObjects gives the versions of all arrivals whose bytes are read back whole from the blob store.
func keptObjects(t *testing.T, i installation, l *ledger) map[string]bool {
	t.Helper()
	key, err := hex.DecodeString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := blob.OpenDir(t.Context(), blob.Options{Dir: filepath.Join(i.home, "blobs"), Worker: math.MaxInt64, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows, err := l.db.Query(context.Background(), `select version, location, sha from gantry.arrival`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kept := map[string]bool{}
	for rows.Next() {
		var version, location string
		var sha []byte
		if err := rows.Scan(&version, &location, &sha); err != nil {
			t.Fatal(err)
		}
		b, err := store.Open(t.Context(), location)
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		whole, set := sha256.Sum256(file), sha256.Sum256(file[144+(int(file[140])|int(file[141])<<8):])
		if err != nil || sha != nil && hex.EncodeToString(whole[:]) != hex.EncodeToString(sha) || hex.EncodeToString(set[:]) != version {
			t.Fatalf("an arrival's bytes are others: %v", err)
		}
		kept[version] = true
	}
	return kept
}
