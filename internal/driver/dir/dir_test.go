package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	const name = "/in/DOE^JANE.dcm"
	own := gantry.Errorf(gantry.Illegal, "too_large", "stage: over the limit")
	for _, c := range []struct {
		err  error
		kind gantry.Kind
		code gantry.Code
	}{
		{syscall.ENOSPC, gantry.Unavailable, CodeNoSpace},
		{syscall.EDQUOT, gantry.Unavailable, CodeNoSpace},
		{syscall.EACCES, gantry.Denied, "denied"},
		{syscall.EPERM, gantry.Denied, "denied"},
		{syscall.EROFS, gantry.Denied, "denied"},
		{syscall.ENAMETOOLONG, gantry.Permanent, CodeNameTooLong},
		{syscall.EIO, gantry.Transient, "transient"},
		{syscall.ESTALE, gantry.Transient, "transient"},
		{own, gantry.Illegal, "too_large"},
	} {
		for _, err := range []error{
			c.err, fmt.Errorf("wrapped: %w", c.err),
			&fs.PathError{Op: "write", Path: name, Err: c.err},
			&os.LinkError{Op: "link", Old: name, New: name, Err: c.err},
		} {
			got := classify("write draft", err)
			if gantry.KindOf(got) != c.kind || gantry.CodeOf(got) != c.code {
				t.Errorf("%v: %s (%s), want %s (%s)", err, gantry.KindOf(got), gantry.CodeOf(got), c.kind, c.code)
			}
			if !errors.Is(got, c.err) || strings.Contains(got.Error(), "DOE") {
				t.Errorf("%v became %v", err, got)
			}
		}
	}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		if got := classify("write", err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a.dcm": false, "a": false, "tmp": false, "part": false, "a.tmp.dcm": false, "~a": false, "a.tmpx": false,
		".": true, ".a": true, ".gantry-00-0.tmp": true, "a.tmp": true, "a.TMP": true, "a.Part": true, "a.crdownload": true, "a~": true, "~": true,
	} {
		if got := ignored(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	if !ignored(draftName("a.dcm", 0)) {
		t.Error("a source would take a sink's drafts")
	}
}
