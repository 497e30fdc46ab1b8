package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const benchBody = 100_000

// BenchmarkCommit100K commits blobs of 100 KB, beside the plain way in the same run: a file each,
// hashed, synced, renamed, its folder synced. The two take turns, so that both meet the same disk.
func BenchmarkCommit100K(b *testing.B) {
	for _, c := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", c), func(b *testing.B) {
			dir := b.TempDir()
			d, err := OpenDir(b.Context(), Options{Dir: filepath.Join(dir, "pack"), Worker: 1, Key: testKey})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			plain := filepath.Join(dir, "plain")
			for i := range shards {
				if err := os.MkdirAll(shardDir(plain, byte(i)), 0o700); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(benchBody)
			var pack, files time.Duration
			var packed, filed int
			bodies := make([][]byte, c)
			for i := range bodies {
				bodies[i] = body(benchBody, uint64(i))
			}
			turn := max(32*c, 256)
			for done := 0; done < b.N; done += turn {
				n := min(turn, b.N-done)
				b.StartTimer()
				pack += timed(b, bodies, n, func(body []byte) error { return packOne(b.Context(), d, body) })
				b.StopTimer()
				packed += n
				m := max(n/8, min(c, n)) // the slow side gets fewer
				files += timed(b, bodies, m, func(body []byte) error { return fileOne(plain, body) })
				filed += m
			}
			fast, slow := float64(packed)/pack.Seconds(), float64(filed)/files.Seconds()
			b.ReportMetric(fast, "blobs/s")
			b.ReportMetric(slow, "plain-blobs/s")
			b.ReportMetric(fast/slow, "ratio")
		})
	}
}

// timed spreads n calls over as many goroutines as there are bodies, which it makes unique.
func timed(b *testing.B, bodies [][]byte, n int, one func([]byte) error) time.Duration {
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for w, blob := range bodies {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				binary.LittleEndian.PutUint64(blob, uint64(time.Now().UnixNano())<<8|uint64(w))
				if err := one(blob); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func packOne(ctx context.Context, d *Dir, body []byte) error {
	s, err := d.Stage(ctx, bytes.NewReader(body), int64(len(body)), 1<<30)
	if err != nil {
		return err
	}
	_, err = s.Commit(ctx)
	return err
}

func fileOne(root string, body []byte) error {
	sha := gantry.Digest(sha256.Sum256(body))
	dir := shardDir(root, sha[0])
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), location{sha: sha}.path(root)); err != nil {
		return err
	}
	return syncDir(dir)
}
