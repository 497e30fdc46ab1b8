package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initPrefix begins the names of data directories that are being made.
const initPrefix = "data.init-"

// prepare gives the binaries to start, after making the data directory if there is none.
func (s *server) prepare(ctx context.Context) (Binaries, error) {
	major, err := dataMajor(s.place.data)
	if err != nil {
		return Binaries{}, err
	}
	bin, err := systemFinder().find(s.binDir, s.place.data, major)
	if err != nil || major != 0 {
		return bin, err
	}
	return bin, s.initdb(ctx, bin)
}

// dataMajor reads the major version that a data directory was made by: 0 when there is none yet.
// Anything else under that name is refused, not overwritten.
func dataMajor(data string) (int, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(data)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%s holds files but no PG_VERSION: not a data directory of Postgres, left untouched", data)
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || major <= 0 {
		return 0, fmt.Errorf("%s: PG_VERSION is not a major version; left untouched", data)
	}
	return major, nil
}

// initdb makes the data directory under another name, syncs it once and renames it: a kill at any
// moment leaves nothing half-made under the real name. The next start removes the remains.
func (s *server) initdb(ctx context.Context, bin Binaries) (err error) {
	s.sweep()
	tmp, err := os.MkdirTemp(s.place.dir, initPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	if s.place.owner.root {
		if err := os.Chown(tmp, int(s.place.owner.uid), int(s.place.owner.gid)); err != nil {
			return err
		}
	}
	s.log("postgres: initdb with %s for %s", bin.Dir, s.place.data)
	cmd := s.command(ctx, bin, "initdb", "-D", tmp, "-U", role, "--no-sync", "--locale=C", "-E", "UTF8", "-A", "trust")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w:\n%s", err, lastLines(string(out), 8))
	}
	if !s.noSync {
		if err := syncTree(tmp); err != nil {
			return fmt.Errorf("sync %s: %w", tmp, err)
		}
	}
	// Unlike os.Rename this also takes the place of an empty directory, and of nothing else.
	if err := unix.Rename(tmp, s.place.data); err != nil {
		return fmt.Errorf("rename %s to data: %w", tmp, err)
	}
	return syncDir(s.place.dir)
}

// sweep removes what a killed initdb left. An orphan that still writes there comes to nothing, and
// what it leaves is removed another time.
func (s *server) sweep() {
	old, _ := filepath.Glob(filepath.Join(s.place.dir, initPrefix+"*"))
	for _, dir := range old {
		os.RemoveAll(dir)
	}
}

// syncDir makes a rename within dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
