package dir

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestWatchTellsOfItsFolder: that a folder is away, and that it is back, is told though nothing comes.
func TestWatchTellsOfItsFolder(t *testing.T) {
	t.Parallel()
	share := t.TempDir() + "/share"
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	s := openSource(t, share)
	told := make(chan gantry.Notice, 100)
	s.Note(func(_ context.Context, n gantry.Notice) error { told <- n; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func(context.Context, gantry.Object) error { return nil }) }()
	want := func(name string, code gantry.Code) {
		t.Helper()
		for {
			select {
			case n := <-told:
				if n.Channel != gantry.ChannelFolder {
					t.Fatalf("%s: %+v", name, n)
				}
				if gantry.CodeOf(n.Err) == code {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: nobody tells", name)
			}
		}
	}
	want("at first", "")
	if err := os.Rename(share, share+"-away"); err != nil {
		t.Fatal(err)
	}
	want("it is away", CodeFolderMissing)
	if err := os.Rename(share+"-away", share); err != nil {
		t.Fatal(err)
	}
	want("it is back", "")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
