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
	"strings"
	"sync"
	"testing"
	"time"

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
	eventually(t, 20*time.Second, "an echo", func() bool {
		return dimsetest.Run(t, "echoscu", append([]string{"-aec", "GANTRY"}, strings.Split(address, ":")...)...).Exit == 0
	})
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
		eventually(t, 20*time.Second, "an echo", func() bool {
			return dimsetest.Run(t, "echoscu", append([]string{"-aec", "GANTRY"}, strings.Split(address, ":")...)...).Exit == 0
		})
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
		if err != nil || hex.EncodeToString(whole[:]) != hex.EncodeToString(sha) || hex.EncodeToString(set[:]) != version {
			t.Fatalf("an arrival's bytes are others: %v", err)
		}
		kept[version] = true
	}
	return kept
}
