package app

import (
	"context"
	"errors"
	"io"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// What is read of an arrival for a rule that speaks of DICOM attributes, in bytes.
const (
	firstPiece  = 64 << 10 // most headers
	largePiece  = 4 << 20  // of each request in the end
	largeHeader = 32 << 20 // in all
)

// CodeHeaderTooLarge is the reason of an arrival whose DICOM attributes have no end within 32 MiB.
const CodeHeaderTooLarge gantry.Code = "header_too_large"

// header reads the attributes of an arriving DICOM file up to its pixel data. They are nil if it is no DICOM file. One
// that is broken is Illegal with the code of what is wrong.
func (in *intake) header(ctx context.Context, f *feed, source gantry.Described, o gantry.Object, arrival int64) (map[string]string, error) {
	if o.Size <= 0 {
		return nil, nil
	}
	tags, err := in.tagsOf(ctx, f, arrival, o.Size, func(ctx context.Context, from, n int64) (io.ReadCloser, error) { return source.Peek(ctx, o, from, n) })
	if gantry.CodeOf(err) == dicom.CodeNotDICOM {
		return nil, nil
	}
	return tags, err
}

// tagsOf reads the attributes of a file of some size that open gives parts of, in one call on record of as many requests as it
// takes. A file that is no DICOM, or that the scanner refuses, is Illegal.
func (in *intake) tagsOf(ctx context.Context, f *feed, arrival, size int64, open func(ctx context.Context, from, n int64) (io.ReadCloser, error)) (tags map[string]string, err error) {
	var verdict error
	spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: f.limiter, Arrival: arrival,
		Pipeline: f.plan.ID, Part: gantry.PartKey{Processor: f.index}, Try: 1}}
	err = in.gate.Call(ctx, spec, func(ctx context.Context) error {
		r := &pieces{size: size, open: func(from, n int64) (io.ReadCloser, error) {
			r, err := open(ctx, from, n)
			if err == nil && f.local {
				r = gate.Local(ctx, r, false)
			}
			return r, err
		}}
		defer r.close()
		tags, verdict = dicom.Tags(r, size)
		return r.failed
	}, nil)
	if err == nil {
		err = verdict
	}
	if err != nil {
		return nil, err
	}
	return tags, nil
}

// pieces reads an object from its beginning, piece by piece as it is asked for: a reader that stops early has cost
// little.
type pieces struct {
	open   func(from, n int64) (io.ReadCloser, error)
	size   int64
	at     int64
	end    int64 // of the present piece
	piece  int64 // its size
	body   io.ReadCloser
	failed error // of the source
}

// Read reads on, and opens the next piece where one ends. Over the limit it is Illegal with code header_too_large, which is
// no failure of the source.
func (p *pieces) Read(b []byte) (int, error) {
	if p.failed != nil || p.at == p.size {
		return 0, errors.Join(p.failed, io.EOF)
	}
	if p.at == largeHeader {
		return 0, gantry.Errorf(gantry.Illegal, CodeHeaderTooLarge, "read header: it goes on after %d bytes", largeHeader)
	}
	if p.body == nil {
		p.piece = min(max(4*p.piece, firstPiece), largePiece)
		n := min(p.piece, p.size-p.at, largeHeader-p.at)
		if p.body, p.failed = p.open(p.at, n); p.failed != nil {
			return 0, p.failed
		}
		p.end = p.at + n
	}
	n, err := p.body.Read(b[:min(int64(len(b)), p.end-p.at)])
	p.at += int64(n)
	if p.at == p.end {
		p.body.Close()
		p.body = nil
		return n, nil
	}
	if err != nil {
		p.failed = cut(err)
		p.body.Close()
	}
	return n, p.failed
}

// close ends the present piece, of which a reader that stops early has left some.
func (p *pieces) close() {
	if p.body != nil {
		p.body.Close()
		p.body = nil
	}
}

// cut tells the end of a piece that came too early from other failures.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return gantry.Errorf(gantry.Transient, "short_body", "read header: the answer is cut short")
	}
	return err
}
