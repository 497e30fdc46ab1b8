package s3

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// How often an upload is given up.
const (
	fewTries  = 4
	firstWait = 200 * time.Millisecond // after the first of them; four times as long after each
	fewTime   = 10 * time.Second       // for all of them
)

// deliverLarge puts an output in pieces. It is read twice: for the digest of each piece, which goes
// with the piece, and to be sent. So nothing of it is kept in memory.
func (s *sink) deliverLarge(ctx context.Context, key string, out gantry.Delivery) error {
	size := max(s.piece, (out.Size+maxPieces-1)/maxPieces)
	whole, pieces, err := s.measure(ctx, out, size)
	if err != nil {
		return err
	}
	if out.Size >= 0 && whole.size != out.Size {
		return gantry.Errorf(gantry.Transient, CodeSizeMismatch, "deliver: not as many bytes as announced")
	}
	if !out.SHA.IsZero() && whole.sum != out.SHA {
		return gantry.Errorf(gantry.Transient, CodeChecksumMismatch, "deliver: other bytes than announced")
	}
	if len(pieces) == 1 {
		return s.deliverWhole(ctx, key, out, whole)
	}
	if len(pieces) > maxPieces {
		return gantry.Errorf(gantry.Permanent, gantry.CodeTooLarge, "deliver: more than %d pieces", maxPieces)
	}
	if there, err := s.look(ctx, key, whole); there || err != nil { // a look costs less than an upload that is refused at its end
		return err
	}
	return s.upload(ctx, key, out, whole, pieces)
}

// look is compare for credentials that may not look, as long as nothing speaks against the server's word.
func (s *sink) look(ctx context.Context, key string, whole piece) (there bool, err error) {
	there, err = s.compare(ctx, key, whole)
	if gantry.KindOf(err) == gantry.Denied && s.server.is() <= wordKept {
		return false, nil
	}
	return there, err
}

func (s *sink) measure(ctx context.Context, out gantry.Delivery, size int64) (piece, []piece, error) {
	r, err := out.Open(ctx)
	if err != nil {
		return piece{}, nil, err
	}
	defer r.Close()
	return measure(ctx, r, size)
}

// upload begins an upload, sends the pieces one after the other and completes it; an upload that
// cannot be completed is given up. One whose process died remains: a rule of the bucket has to end it.
func (s *sink) upload(ctx context.Context, key string, out gantry.Delivery, whole piece, pieces []piece) error {
	out.SHA = whole.sum
	along, err := s.labels.fill(ctx, out)
	if err != nil {
		return err
	}
	in := &sdk.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key, ContentType: mediaOf(out)}
	along.create(in)
	if s.sums {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	begun, err := s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return plain(ctx, "begin upload", err)
	}
	parts, err := s.send(ctx, key, begun.UploadId, out, pieces)
	if err != nil {
		s.abort(ctx, key, begun.UploadId)
		return err
	}
	// Sending takes long, and a server that keeps to the condition of a put may not know it of an upload.
	if there, err := s.look(ctx, key, whole); there || err != nil {
		s.abort(ctx, key, begun.UploadId)
		return err
	}
	condition := s.condition()
	_, err = s.client.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: begun.UploadId,
		IfNoneMatch: condition, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	if err != nil {
		s.abort(ctx, key, begun.UploadId)
	}
	if s.putAgain(err, condition) {
		if there, err := s.before(ctx, key, whole); there || err != nil {
			return err
		}
		return s.upload(ctx, key, out, whole, pieces)
	}
	if err = s.judge(ctx, key, whole, err); err != nil {
		return err
	}
	return s.after(ctx, key, whole)
}

// send sends the pieces.
func (s *sink) send(ctx context.Context, key string, id *string, out gantry.Delivery, pieces []piece) ([]types.CompletedPart, error) {
	r, err := out.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	parts := make([]types.CompletedPart, 0, len(pieces))
	for i, p := range pieces {
		part, err := s.sendPiece(ctx, key, id, r, int32(i+1), p, i == len(pieces)-1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (s *sink) sendPiece(ctx context.Context, key string, id *string, r io.Reader, n int32, p piece, last bool) (types.CompletedPart, error) {
	b := newBody(ctx, r, p, last)
	sum := s.checksum(p.sum)
	done, err := s.client.UploadPart(ctx, &sdk.UploadPartInput{Bucket: &s.bucket, Key: &key, UploadId: id, PartNumber: &n, Body: b,
		ContentLength: &p.size, ChecksumSHA256: sum}, signedBody(p.sum))
	if wrong := b.stop(); wrong != nil {
		return types.CompletedPart{}, wrong
	}
	if err != nil {
		return types.CompletedPart{}, plain(ctx, "send piece", err)
	}
	return types.CompletedPart{PartNumber: aws.Int32(n), ETag: done.ETag, ChecksumSHA256: sum}, nil
}

// abort gives an upload up, also when ctx has ended, and more than once: what made it fail is often a server that is busy. What
// comes of it changes nothing.
func (s *sink) abort(ctx context.Context, key string, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fewTime)
	defer cancel()
	for n := range fewTries {
		if n > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstWait << (2 * (n - 1))):
			}
		}
		_, err := s.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: id})
		if err = plain(ctx, "give up upload", err); err == nil || settled(err) {
			return
		}
	}
}
