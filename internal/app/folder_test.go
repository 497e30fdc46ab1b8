package app

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestFolderOf: what of a path is the folder, and what the name of a member.
func TestFolderOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix, ref  string
		depth        int
		folder, rest string
	}{
		{"drop/", "drop/ct/1.dcm", 0, "ct", "1.dcm"},
		{"drop", "drop/ct/1.dcm", 0, "ct", "1.dcm"},
		{"", "ct/1.dcm", 0, "ct", "1.dcm"},
		{"", "p/s/1.dcm", 0, "p/s", "1.dcm"},
		{"", "p/s/1.dcm", 1, "p", "s/1.dcm"},
		{"", "p/s/t/1.dcm", 2, "p/s", "t/1.dcm"},
		{"", "p/1.dcm", 2, "p", "1.dcm"},
		{"", "p//1.dcm", 0, "p/", "1.dcm"},
		{"", "//1.dcm", 0, "", "1.dcm"},
		{"drop/", "drop/1.dcm", 0, "-", "1.dcm"},
		{"drop/in", "drop/in-1.dcm", 1, "-", "-1.dcm"},
		{"", "", 0, "-", ""},
	} {
		f := &feed{prefix: c.prefix}
		folder, rest, ok := folderOf(f.below(c.ref), c.depth)
		if !ok && folder == "" {
			folder = "-"
		}
		if folder != c.folder || rest != c.rest {
			t.Errorf("%s below %q with depth %d: %q, %q; want %q, %q", c.ref, c.prefix, c.depth, folder, rest, c.folder, c.rest)
		}
	}
}

// FuzzFolderOf: whatever a key is, folder and rest are the whole of it, and the rest has no more folders than it may.
func FuzzFolderOf(f *testing.F) {
	for _, s := range []string{"", "/", "a", "a/b", "a//b/", "///", "\xff/\x00"} {
		f.Add(s, uint8(len(s)))
	}
	f.Fuzz(func(t *testing.T, below string, depth uint8) {
		folder, rest, ok := folderOf(below, int(depth))
		n := strings.Count(folder, "/") + 1
		switch {
		case !ok && (rest != below || strings.Contains(below, "/")):
			t.Errorf("%q has no folder", below)
		case ok && folder+"/"+rest != below:
			t.Errorf("%q: %q and %q", below, folder, rest)
		case ok && depth > 0 && n > int(depth), ok && (depth == 0 || n < int(depth)) && strings.Contains(rest, "/"):
			t.Errorf("%q with depth %d: %q", below, depth, folder)
		}
	})
}

// TestIsMarker: a marker is one by its path below the folder.
func TestIsMarker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		marker string
		depth  int
		ref    string
		want   bool
	}{
		{"_done", 0, "in/ct/_done", true}, {"_done", 0, "in/ct/1.dcm", false}, {"_done", 0, "in/_done", true}, {"", 0, "in/ct/_done", false},
		{"_done", 1, "in/ct/s/_done", false}, {"*/_done", 1, "in/ct/s/_done", true}, {"*/_done", 1, "in/_done", true}, {"*.done", 0, "in/a/b.done", true},
	} {
		f, w := &feed{prefix: "in/"}, way{collect: &gantry.Collect{By: gantry.GroupPrefix, Depth: c.depth, Marker: c.marker}}
		if got := w.isMarker(f, gantry.Object{Ref: c.ref}); got != c.want {
			t.Errorf("%s for %q with depth %d: %t", c.ref, c.marker, c.depth, got)
		}
	}
	if (way{}).isMarker(&feed{}, gantry.Object{Ref: "a/_done"}) {
		t.Error("a way that does not collect has markers")
	}
}

func TestCommonFolder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files []string
		want  string
	}{
		{nil, ""}, {[]string{"/a/b/1"}, "/a/b"}, {[]string{"/a/b/1", "/a/b/2"}, "/a/b"}, {[]string{"/a/b/1", "/a/bc/2"}, "/a"},
		{[]string{"/a/b/1", "/a/b/c/2"}, "/a/b"}, {[]string{"/a/b/c/1", "/a/b/2"}, "/a/b"}, {[]string{"/a/1", "/b/2"}, "/"}, {[]string{"/1", "/b/2"}, "/"},
	} {
		if got := commonFolder(c.files); got != c.want {
			t.Errorf("%v: %s, want %s", c.files, got, c.want)
		}
	}
}
