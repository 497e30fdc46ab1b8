package blob

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// held is a blob in memory (body) or in a temporary file.
type held struct {
	mem  *memory
	size int64
	sha  gantry.Digest // zero: not known, and it has a seal
	seal gantry.Seal   // of all bytes where their digest is known
	body []byte
	file *os.File
	used atomic.Bool // committed or discarded: body and file belong to somebody else
}

// Size is that of the blob in bytes.
func (s *held) Size() int64 { return s.size }

// SHA is the digest of the blob's bytes; zero where it has a seal of less.
func (s *held) SHA() gantry.Digest { return s.sha }

// Inline gives the bytes of a small blob, also after Commit and Discard.
func (s *held) Inline() []byte {
	if s.size > gantry.InlineLimit {
		return nil
	}
	return s.body
}

// Discard gives up a blob that was not committed.
func (s *held) Discard() {
	if s.used.CompareAndSwap(false, true) {
		s.release()
	}
}

// release gives up memory or file.
func (s *held) release() {
	if s.file != nil {
		dropFile(s.file)
		return
	}
	s.mem.put(s.body)
}

// staged is a blob on its way into a folder.
type staged struct {
	*held
	dir *Dir
}

// Commit packs a blob in memory into the segment, or gives a file its name by digest. A commit
// that ctx cut short may or may not have happened; nothing names what it left.
func (s *staged) Commit(ctx context.Context) (string, error) {
	fail.Point("before_blob_commit")
	at, err := s.commit(ctx)
	fail.Point("after_blob_commit")
	return at, err
}

func (s *staged) commit(ctx context.Context) (string, error) {
	if !s.used.CompareAndSwap(false, true) {
		return "", gantry.Errorf(gantry.Illegal, "", "commit blob: it was committed or discarded before")
	}
	if s.file == nil {
		return s.dir.pack(ctx, s.body, s.seal)
	}
	err := ctx.Err()
	if err == nil {
		err = s.dir.checkOpen()
	}
	if err == nil {
		err = note(ctx, s.dir.ledger, gantry.KeptBlob{Location: location{sha: s.sha}.String(), Worker: s.dir.worker, Size: s.size, SHA: s.sha})
	}
	if err == nil {
		err = s.keepFile()
	}
	if err != nil {
		dropFile(s.file)
		return "", diskError("commit file", err)
	}
	return location{sha: s.sha}.String(), nil
}

// keepFile gives the file its name. Equal bytes that are there already stay; what was renamed
// was synced before, but perhaps not its name.
func (s *staged) keepFile() error {
	if err := s.dir.keepShard(s.sha[0]); err != nil {
		return err
	}
	path := location{sha: s.sha}.path(s.dir.root)
	if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == s.size {
		dropFile(s.file)
		return syncDir(shardDir(s.dir.root, s.sha[0]))
	}
	if err := s.dir.env.sync(s.file); err != nil {
		return err
	}
	if err := os.Rename(s.file.Name(), path); err != nil {
		return err
	}
	if err := syncDir(shardDir(s.dir.root, s.sha[0])); err != nil {
		return err
	}
	return s.file.Close()
}
