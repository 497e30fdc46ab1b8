package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// blobs looks whether the blob store can be written, and whether it belongs to the deployment key and to the database with this id.
func blobs(o Options, database *string) []Finding {
	if _, err := os.Stat(o.Blobs); errors.Is(err, fs.ErrNotExist) {
		parent := existing(o.Blobs)
		if err := unix.Access(parent, unix.W_OK); err != nil {
			return []Finding{bad("blobs", fmt.Sprintf("%s is not there, and %s cannot be written to", o.Blobs, parent), "make the folder and give it to the user that runs gantry, or choose another with --home")}
		}
		return []Finding{well("blobs", o.Blobs+" is not there yet and will be made")}
	}
	found := []Finding{written(o.Blobs)}
	about, err := blob.Inspect(o.Blobs, o.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return append(found, well("identity", "the blob store was never opened"))
	case err != nil:
		return append(found, bad("identity", err.Error(), "set --key (GANTRY_KEY) to the key that the store was made with, or restore the file key in it"))
	}
	return append(found, well("identity", "blob store "+about.ID+" has this deployment's key"), owner(about, database))
}

// owner looks whether a store belongs to the database; nil: that does not answer.
func owner(x blob.About, database *string) Finding {
	switch o := x.Owner; {
	case o.Database == "":
		return well("owner", "the blob store belongs to the database that opens it next")
	case database == nil:
		return well("owner", "the blob store belongs to database "+o.Database)
	case o.Database == *database:
		return well("owner", "the blob store belongs to this database")
	default:
		return bad("owner", fmt.Sprintf("the blob store belongs to another database, %s, since %s", o.Database, o.Since.Format(time.RFC3339)),
			"give this database a blob store of its own or, if the other is lost for good, say gantry blobs claim")
	}
}

// bucket asks for the identity of a store in a bucket, and for its owner.
func bucket(ctx context.Context, o Options, database *string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	about, err := o.Bucket(ctx)
	switch {
	case gantry.CodeOf(err) == blob.CodeMissing:
		return []Finding{well("blobs", "the bucket answers, and the blob store was never opened")}
	case gantry.CodeOf(err) == blob.CodeWrongKey:
		return []Finding{bad("blobs", err.Error(), "set key (GANTRY_KEY) to the key that the store was made with, or name another prefix")}
	case err != nil:
		return []Finding{bad("blobs", err.Error(), "look at blobs and bucket in the deployment file, and at the rights of its credentials")}
	}
	return []Finding{well("blobs", "blob store "+about.ID+" is in a bucket and has this deployment's key"), owner(about, database)}
}

// written writes a file to the disk and removes it.
func written(dir string) Finding {
	err := func() error {
		f, err := os.CreateTemp(dir, "tmp-doctor-")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString("gantry doctor\n")
		return errors.Join(err, f.Sync(), f.Close())
	}()
	if err != nil {
		return bad("blobs", err.Error(), "give the folder to the user that runs gantry, and look whether the disk is full or read-only")
	}
	return well("blobs", dir+" can be written to")
}

// existing is the nearest folder above a path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// Below these the disk is a doubt, or a problem.
const (
	fewBytes   = 10 << 30
	noBytes    = 1 << 30
	fewPercent = 5
)

func disk(o Options) Finding {
	var st unix.Statfs_t
	at := existing(o.Blobs)
	if err := unix.Statfs(at, &st); err != nil {
		return bad("disk", "look at "+at+": "+err.Error(), "choose another place with --home")
	}
	free, all := uint64(st.Bavail)*uint64(st.Bsize), uint64(st.Blocks)*uint64(st.Bsize)
	return space(at, free, all)
}

func space(at string, free, all uint64) Finding {
	percent := 100 * float64(free) / float64(max(all, 1))
	text := fmt.Sprintf("%.1f GiB (%.0f %%) free at %s", float64(free)/(1<<30), percent, at)
	switch {
	case free < noBytes:
		return bad("disk", text, "make room: objects that find none are refused")
	case free < fewBytes || percent < fewPercent:
		return doubt("disk", text, "make room before it is full")
	}
	return well("disk", text)
}

// enoughFiles is how many descriptors a busy process may need: connections, archives, blobs.
const enoughFiles = 4096

func files() Finding {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return bad("files", "read the limit: "+err.Error(), "")
	}
	text := fmt.Sprintf("%d files may be open at once", l.Cur)
	if l.Cur < enoughFiles {
		return bad("files", text, fmt.Sprintf("raise the limit to %d or more (ulimit -n, LimitNOFILE=)", enoughFiles))
	}
	return well("files", text)
}

// programs looks for what decodes video and compressed pixels.
func programs(ctx context.Context) []Finding {
	var found []Finding
	for _, p := range []struct{ name, flag, need string }{
		{"ffmpeg", "-version", "videos cannot be taken apart or made; install ffmpeg"},
		{"ffprobe", "-version", "videos cannot be taken apart; install ffmpeg"},
	} {
		path, err := exec.LookPath(p.name)
		if err != nil {
			found = append(found, doubt(p.name, "it is not in PATH", p.need))
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		out, err := exec.CommandContext(ctx, path, p.flag).Output()
		cancel()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil {
			found = append(found, bad(p.name, path+" does not start: "+err.Error(), p.need))
			continue
		}
		head, _, _ := strings.Cut(line, " Copyright")
		found = append(found, well(p.name, head+" in "+path))
	}
	return found
}
