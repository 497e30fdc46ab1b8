package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	ownSum       = "gantry-sha256" // metadata: the digest of the whole, which no server knows of an upload in pieces
	maxPieces    = 10_000
	abortTimeout = 10 * time.Second
)

// putting is a blob on its way into a bucket.
type putting struct {
	*held
	bucket *Bucket
}

// Commit makes the blob an object, named by its digest, unless there is one with these bytes already; blobs over
// 64 MiB go in pieces, which show only together. The blob's row is written first, so that garbage of the same
// bytes is not collected meanwhile. A commit that failed, or that ctx cut short, may or may not have happened.
func (s *putting) Commit(ctx context.Context) (string, error) {
	fail.Point("before_object_commit")
	at, err := s.commit(ctx)
	fail.Point("after_object_commit")
	return at, err
}

func (s *putting) commit(ctx context.Context) (string, error) {
	if !s.used.CompareAndSwap(false, true) {
		return "", gantry.Errorf(gantry.Illegal, "", "commit blob: it was committed or discarded before")
	}
	defer s.release()
	if err := s.bucket.checkOpen(); err != nil {
		return "", err
	}
	where := location{sha: s.sha}.String()
	if err := note(ctx, s.bucket.Ledger, gantry.KeptBlob{Location: where, Worker: s.bucket.Worker, Size: s.size, SHA: s.sha}); err != nil {
		return "", err
	}
	fail.Point("after_object_noted")
	put := s.put
	if s.size > s.bucket.piece {
		put = s.putPieces
	}
	if err := s.bucket.several(ctx, put); err != nil {
		return "", err
	}
	return where, nil
}

// from gives bytes of the blob.
func (s *putting) from(off, n int64) *part {
	if s.file != nil {
		return &part{r: io.NewSectionReader(s.file, off, n)}
	}
	return &part{r: bytes.NewReader(s.body[off : off+n])}
}

// part is what one request sends. The transport may hold it for longer than the request lasts, and the memory
// is given to others then.
type part struct {
	mu      sync.Mutex
	r       io.ReadSeeker
	stopped bool
}

// Read gives nothing more once the part is stopped.
func (p *part) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return 0, io.ErrClosedPipe
	}
	return p.r.Read(b)
}

// Seek is that of the bytes.
func (p *part) Seek(off int64, whence int) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r.Seek(off, whence)
}

func (p *part) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// put sends the whole with one request. A key that is taken is looked at, and so is one whose answer was lost: a
// server may refuse a body and break the connection before its answer is read, or may have kept it.
func (s *putting) put(ctx context.Context) error {
	err := s.send(ctx, aws.String("*"))
	if err == nil {
		return nil
	}
	code, class := status(err), s.judge(ctx, err)
	switch {
	case code == http.StatusNotImplemented: // If-None-Match
		return s.judge(ctx, s.send(ctx, nil))
	case code == http.StatusPreconditionFailed, code == 0 && worthAnother(class):
		if there, cerr := s.compare(ctx); there || cerr != nil && code != 0 {
			return cerr
		}
	}
	if code == http.StatusPreconditionFailed { // what has the name has other bytes than its name says
		return s.judge(ctx, s.send(ctx, nil))
	}
	return class
}

func (s *putting) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return bucketGone(classify(ctx, "commit blob", err))
}

func (s *putting) send(ctx context.Context, guard *string) error {
	one, cancel := context.WithTimeout(ctx, largeTime)
	defer cancel()
	body := s.from(0, s.size)
	defer body.stop()
	_, err := s.bucket.client.PutObject(one, &sdk.PutObjectInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha), Body: body, ContentLength: &s.size,
		ContentType: aws.String("application/octet-stream"), IfNoneMatch: guard, Metadata: map[string]string{ownSum: s.sha.String()}, ChecksumSHA256: checksum(s.sha)}, signedBody(s.sha))
	return err
}

func checksum(sum gantry.Digest) *string {
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// compare tells whether there is an object of this size and digest.
func (s *putting) compare(ctx context.Context) (bool, error) {
	one, cancel := context.WithTimeout(ctx, smallTime)
	defer cancel()
	head, err := s.bucket.client.HeadObject(one, &sdk.HeadObjectInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha), ChecksumMode: types.ChecksumModeEnabled})
	if status(err) == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, classify(ctx, "look at what is there", err)
	}
	sum := head.Metadata[ownSum]
	if raw, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256)); err == nil && len(raw) == len(s.sha) && head.ChecksumType != types.ChecksumTypeComposite {
		sum = gantry.Digest(raw).String()
	}
	return aws.ToInt64(head.ContentLength) == s.size && sum == s.sha.String(), nil
}

// putPieces sends a large blob in pieces, unless it is there.
func (s *putting) putPieces(ctx context.Context) error {
	if there, err := s.compare(ctx); there || err != nil {
		return err
	}
	one, cancel := context.WithTimeout(ctx, smallTime)
	defer cancel()
	begun, err := s.bucket.client.CreateMultipartUpload(one, &sdk.CreateMultipartUploadInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha),
		ContentType: aws.String("application/octet-stream"), Metadata: map[string]string{ownSum: s.sha.String()}, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	if err != nil {
		return s.judge(ctx, err)
	}
	parts, err := s.sendPieces(ctx, begun.UploadId)
	if err == nil {
		err = s.complete(ctx, begun.UploadId, parts)
	}
	if err != nil {
		s.abort(ctx, begun.UploadId)
	}
	return err
}

// complete makes an object of the pieces, unless another process was faster.
func (s *putting) complete(ctx context.Context, upload *string, parts []types.CompletedPart) error {
	try := func(guard *string) error {
		one, cancel := context.WithTimeout(ctx, largeTime)
		defer cancel()
		_, err := s.bucket.client.CompleteMultipartUpload(one, &sdk.CompleteMultipartUploadInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha), UploadId: upload,
			IfNoneMatch: guard, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		return err
	}
	err := try(aws.String("*"))
	switch status(err) {
	case http.StatusPreconditionFailed:
		there, err := s.compare(ctx)
		if err == nil && !there {
			return s.judge(ctx, try(nil))
		}
		s.abort(ctx, upload)
		return err
	case http.StatusNotImplemented:
		return s.judge(ctx, try(nil))
	}
	return s.judge(ctx, err)
}

func (s *putting) sendPieces(ctx context.Context, upload *string) (parts []types.CompletedPart, err error) {
	size := max(s.bucket.piece, (s.size+maxPieces-1)/maxPieces)
	for off := int64(0); off < s.size; off += size {
		var part types.CompletedPart
		n, number := min(size, s.size-off), int32(len(parts)+1)
		err = s.bucket.several(ctx, func(ctx context.Context) error {
			part, err = s.sendPiece(ctx, upload, number, off, n)
			return err
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// sendPiece reads a piece twice: for its digest, which is signed, and to be sent.
func (s *putting) sendPiece(ctx context.Context, upload *string, number int32, off, n int64) (types.CompletedPart, error) {
	h := sha256.New()
	if _, err := io.Copy(h, s.from(off, n)); err != nil {
		return types.CompletedPart{}, diskError("read temporary file", err)
	}
	sum := gantry.Digest(h.Sum(nil))
	one, cancel := context.WithTimeout(ctx, largeTime)
	defer cancel()
	body := s.from(off, n)
	defer body.stop()
	done, err := s.bucket.client.UploadPart(one, &sdk.UploadPartInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha), UploadId: upload, PartNumber: &number,
		Body: body, ContentLength: &n, ChecksumSHA256: checksum(sum)}, signedBody(sum))
	if err != nil {
		return types.CompletedPart{}, s.judge(ctx, err)
	}
	return types.CompletedPart{PartNumber: &number, ETag: done.ETag, ChecksumSHA256: checksum(sum)}, nil
}

// abort gives an upload up, also when ctx has ended, and not once alone: it mostly follows an answer that the server is busy. What comes
// of it changes nothing.
func (s *putting) abort(ctx context.Context, upload *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	s.bucket.several(ctx, func(ctx context.Context) error {
		_, err := s.bucket.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: &s.bucket.Bucket, Key: s.bucket.keyOf(s.sha), UploadId: upload})
		if err != nil {
			return classify(ctx, "give up upload", err)
		}
		return nil
	})
}
