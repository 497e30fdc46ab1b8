package dir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestWatchTakesWhatItShould(t *testing.T) {
	onBench(t, SourceConfig{Pattern: "*.dcm"}, func(b *bench) {
		for _, name := range []string{
			"a.dcm", "sub/b.dcm", "sub/deep/er/c.dcm", "empty.dcm", "with space ü.dcm",
			".hidden.dcm", ".folder/d.dcm", "sub/.snapshot/e.dcm", "f.txt", "g.dcm.tmp", "h.dcm.part", "i.dcm.crdownload", "j.dcm~", "k.DCM", "l.dcm.TMP", "m.tmp/n.dcm",
		} {
			b.write(name, name)
		}
		b.write("empty.dcm", "")
		if err := errors.Join(os.Symlink("a.dcm", filepath.Join(b.folder, "link.dcm")), os.Symlink("sub", filepath.Join(b.folder, "linked")), os.Symlink("..", filepath.Join(b.folder, "sub/up"))); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.until(0.9)
		b.want()
		b.until(100)
		b.want("1 a.dcm", "1 sub/b.dcm", "1 sub/deep/er/c.dcm", "1 empty.dcm", "1 with space ü.dcm")
		for _, o := range b.objects {
			if o.Ref == "sub/deep/er/c.dcm" && (o.Name != "c.dcm" || o.Size != 17 || o.Version != "" || o.Sequencer == "") {
				t.Errorf("announced %+v", o)
			}
		}
	})
}

func TestWatchWaitsUntilAFileRests(t *testing.T) {
	onBench(t, SourceConfig{Settle: 10 * time.Second}, func(b *bench) {
		b.start()
		b.write("a", "1")
		b.tell("a", fsnotify.Create)
		for i := range 5 { // told of each write
			b.until(float64(i+1) * 5)
			b.write("a", "123456"[:i+2])
			b.tell("a", fsnotify.Write)
		}
		b.until(34)
		b.write("a", "1234567") // and not of this one
		b.until(44)
		b.want()
		b.until(200)
		b.want("45 a")
		if o := b.objects[0]; o.Size != 7 {
			t.Errorf("announced with %d bytes", o.Size)
		}
	})
}

func TestWatchLooksAtEverything(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		b.start()
		b.until(10)
		b.write("b", "1")
		b.write("sub/c", "1")
		b.until(29)
		b.want("1 a")
		b.until(1000) // a and the others are not announced again by all the looks since
		b.want("1 a", "31 b", "31 sub/c")
	})
}

func TestWatchIsToldOfFolders(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.start()
		b.until(2)
		b.write("new/deep/a", "1")
		b.tell("new", fsnotify.Create)
		b.until(5)
		b.want("3 new/deep/a")
		if !slices.Contains(b.added, "new/deep") {
			t.Errorf("listens to %q", b.added)
		}
	})
}

func TestWatchIgnoresWhatItIsToldOfOthers(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.start()
		b.write(".hidden/a", "1")
		b.write("m.part/b", "1")
		for _, name := range []string{".hidden", ".hidden/a", "m.part", "m.part/b", "../elsewhere", "none"} {
			b.tell(name, fsnotify.Create)
		}
		b.until(25)
		b.want()
	})
}

func TestWatchAnnouncesAChangedFile(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		b.start()
		b.until(5)
		b.tell("a", fsnotify.Chmod) // nothing that counts
		b.until(10)
		b.write("a", "12")
		b.tell("a", fsnotify.Write)
		b.until(20)
		b.want("1 a", "11 a")
		if b.objects[0].Sequencer == b.objects[1].Sequencer {
			t.Error("the sequencer did not change with the file")
		}
	})
}

func TestWatchForgetsWhatVanishes(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("told", "1")
		b.write("found", "1")
		if err := os.Link(filepath.Join(b.folder, "told"), filepath.Join(b.folder, ".told")); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.until(5)
		if err := os.Remove(filepath.Join(b.folder, "told")); err != nil {
			t.Fatal(err)
		}
		b.tell("told", fsnotify.Remove)
		if err := os.Rename(filepath.Join(b.folder, ".told"), filepath.Join(b.folder, "told")); err != nil { // the very same file
			t.Fatal(err)
		}
		b.tell("told", fsnotify.Create)
		if err := os.Rename(filepath.Join(b.folder, "found"), filepath.Join(b.folder, ".found")); err != nil {
			t.Fatal(err)
		}
		b.until(35) // a look without it
		if err := os.Rename(filepath.Join(b.folder, ".found"), filepath.Join(b.folder, "found")); err != nil {
			t.Fatal(err)
		}
		b.until(100)
		b.want("1 told", "1 found", "6 told", "61 found")
	})
}

func TestWatchTriesAgain(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		b.write("b", "1")
		b.setFail("a", errors.New("no database"))
		b.setFail("b", &gantry.Error{Kind: gantry.Unavailable, RetryAfter: 50 * time.Second})
		b.start()
		b.until(110)
		b.want("1 a", "2 a", "4 a", "8 a", "16 a", "32 a", "62 a", "92 a", "1 b", "51 b", "101 b")
		b.setFail("a", nil)
		b.setFail("b", nil)
		b.until(1000)
		b.want("1 a", "2 a", "4 a", "8 a", "16 a", "32 a", "62 a", "92 a", "122 a", "1 b", "51 b", "101 b", "151 b")
	})
}

// Other bytes are another chance: they do not wait for the pause of those that failed.
func TestWatchTriesAChangedFileSoon(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		b.setFail("a", errors.New("no"))
		b.start()
		b.until(63)
		b.setFail("a", nil)
		b.write("a", "12")
		b.tell("a", fsnotify.Write)
		b.until(1000)
		b.want("1 a", "2 a", "4 a", "8 a", "16 a", "32 a", "62 a", "64 a")
	})
}

func TestWatchGivesUpWhatVanishedBeforeItWasTaken(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		b.write("b", "1")
		b.setFail("b", errors.New("no"))
		b.start()
		b.until(0.5)
		b.remove("a")
		b.until(1.5)
		b.remove("b")
		b.until(300)
		b.want("1 b")
	})
}

func TestWatchAnnouncesEightAtOnce(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		hold := make(chan struct{})
		b.hold = hold
		for i := range 20 {
			b.write(fmt.Sprint(i), "1")
		}
		b.start()
		b.until(5)
		if len(b.got) != 8 || b.running != 8 {
			t.Errorf("%d announced, %d run", len(b.got), b.running)
		}
		b.write("19", "12") // while it waits
		b.tell("19", fsnotify.Write)
		close(hold)
		b.until(40)
		if len(b.got) != 20 || b.most != 8 {
			t.Errorf("%d announced, %d at once", len(b.got), b.most)
		}
		for _, o := range b.objects {
			if o.Ref == "19" && o.Size != 2 {
				t.Error("announced as it was before it changed")
			}
		}
	})
}

// A file that changes while it is announced is announced again.
func TestWatchNoticesAChangeDuringTheAnnouncement(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		hold := make(chan struct{})
		b.hold = hold
		b.write("a", "1")
		b.start()
		b.until(5)
		b.write("a", "12")
		b.tell("a", fsnotify.Write)
		b.until(10)
		close(hold)
		b.until(100)
		b.want("1 a", "11 a")
	})
}

func TestWatchLooksWhenTheSystemLosesCount(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.start()
		b.until(10)
		b.write("a", "1")
		b.errors <- fsnotify.ErrEventOverflow
		b.until(15)
		b.want("11 a")
		looks := len(b.added)
		for range 100 { // however often it says so, one look a second
			b.errors <- fsnotify.ErrEventOverflow
			synctest.Wait()
		}
		if n := len(b.added) - looks; n > 1 {
			t.Errorf("%d looks at once", n)
		}
	})
}

func TestWatchGoesOnWithoutBeingTold(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.start()
		b.until(2)
		close(b.events)
		close(b.errors)
		synctest.Wait()
		b.until(3)
		b.write("a", "1")
		b.until(20)
		b.want("8 a") // by the look at 7 s, 5 s after the one at 2 s
	})
}

func TestWatchOutlivesItsFolder(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("a", "1")
		away := b.folder + "-away"
		b.start()
		b.until(5)
		if err := os.Rename(b.folder, away); err != nil {
			t.Fatal(err)
		}
		b.until(100)
		if err := os.Rename(away, b.folder); err != nil {
			t.Fatal(err)
		}
		b.write("b", "1")
		b.until(200)
		b.want("1 a", "122 b") // looked at 30, 31, 33, 37, 45, 61, 91 and 121 s; a was known all the time
	})
}

func TestWatchEndsWhileItAnnounces(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.hold = make(chan struct{}) // for ever
		for i := range 20 {
			b.write(fmt.Sprint(i), "1")
		}
		b.start()
		b.until(5) // onBench cancels and checks the rest
	})
}

// A name that is no UTF-8 is one all the same, and what people see of it can be stored.
func TestWatchTakesAnyName(t *testing.T) {
	onBench(t, SourceConfig{}, func(b *bench) {
		b.write("M\xfcller\n.dcm", "1")
		b.start()
		b.until(2)
		if len(b.objects) != 1 || b.objects[0].Ref != "M\xfcller\n.dcm" || b.objects[0].Name != "M\uFFFDller\n.dcm" {
			t.Fatalf("announced %+v", b.objects)
		}
		r, err := b.source.Open(t.Context(), b.objects[0].Ref)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
}
