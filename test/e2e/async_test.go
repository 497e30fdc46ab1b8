package e2e

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var modelsAt = regexp.MustCompile(`models on (http://[0-9.:]+)/v1/`)

// freeAddress is one that nobody listens on, so that a process which is begun anew has the same.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestAnswersOutliveTheProcess has the reference service answer later, signed, to pipelines/async.yaml as docs/async.md
// shows it, and kills the serving process while all answers are out: the next one takes them at the same address, and
// nothing is asked for twice.
func TestAnswersOutliveTheProcess(t *testing.T) {
	t.Setenv("CALLBACK_SECRET", "a secret of the test")
	f := newFleet(t, lease)
	models := f.start(t, "models", "serve", "--listen", "127.0.0.1:0", "--callback-secret", "${env:CALLBACK_SECRET}")
	eventually(t, 20*time.Second, "the models", func() bool { return modelsAt.MatchString(models.log.tail(1 << 20)) })
	text, err := os.ReadFile("../../pipelines/async.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := strings.NewReplacer("http://127.0.0.1:8095", modelsAt.FindStringSubmatch(models.log.tail(1 << 20))[1], "after=1s", "after=6s", "poll: 2s ", "poll: 5m ", "concurrency: 8", "concurrency: 16",
		"settle: 1s", "settle: 100ms")
	f.write("async.yaml", []byte(r.Replace(string(text))))
	inbox := filepath.Join(f.dir, "in-async")
	if err := os.Mkdir(inbox, 0o755); err != nil {
		t.Fatal(err)
	}
	const n = 12
	drop(t, inbox, 0, n)
	address, file := freeAddress(t), filepath.Join(f.dir, "async.yaml")
	first := f.serve(t, file, "--lease", lease, "--listen", address)
	eventually(t, 30*time.Second, "every answer to be out", func() bool { return f.number(`select count(*) from part where status = 1`) == n })
	first.kill()
	second := f.serve(t, file, "--lease", lease, "--listen", address)
	eventually(t, 60*time.Second, "every task to end", func() bool { return f.number(`select count(*) from task where final_state = 5`) == n })
	second.stop(t)
	if got := f.number(`select count(*) from callback where verdict = 0`); got != n {
		t.Errorf("%d answers came as callbacks, want %d", got, n)
	}
	if got := f.number(`select count(*) from call_intent where op in ($1, $2)`, int(gantry.OpSubmit), int(gantry.OpCollect)); got != n {
		t.Errorf("%d requests to the service, want %d", got, n)
	}
}
