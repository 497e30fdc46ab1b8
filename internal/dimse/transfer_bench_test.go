package dimse

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
)

// swallower reads instances and keeps nothing.
type swallower struct{ *shelf }

func (swallower) Store(_ context.Context, r StoreRequest) Response {
	if _, err := io.Copy(io.Discard, r.Data); err != nil {
		return Response{Status: StatusProcessing}
	}
	return Response{}
}

// BenchmarkTransfer moves objects of 512 KiB over loopback: as C-STOREs on one association, with the maximum length that we announce and with
// dcmtk's, and as bytes of a plain TCP connection that the receiver answers with one byte each.
func BenchmarkTransfer(b *testing.B) {
	data := noise(512 << 10)
	for name, size := range map[string]int{"association/128KiB": 0, "association/16KiB": 16 << 10, "association/1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			s := serverOf(nil)
			s.Admit = func(context.Context, Proposal) (Terms, error) {
				return Terms{Handler: swallower{newShelf()}, Accept: takeAll, MaxPDU: size}, nil
			}
			a := ask(b, serve(b, s, 0).address, plain())
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := a.Store(b.Context(), storeOf(a, "1.2.3", bytes.NewReader(data))); err != nil || r.Status != StatusSuccess {
					b.Fatal(r, err)
				}
			}
		})
	}
	b.Run("tcp", func(b *testing.B) {
		near, far := pair(b)
		go answerEach(far, len(data))
		b.SetBytes(int64(len(data)))
		var ok [1]byte
		for b.Loop() {
			if _, err := near.Write(data); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(near, ok[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// answerEach answers each n bytes by one.
func answerEach(c net.Conn, n int) {
	buf := make([]byte, readBuffer)
	for {
		for left := n; left > 0; {
			m, err := c.Read(buf[:min(left, len(buf))])
			if err != nil {
				return
			}
			left -= m
		}
		_, _ = c.Write(buf[:1])
	}
}

// BenchmarkAssociation opens an association, asks for an echo and releases it, as senders do that open one for each image.
func BenchmarkAssociation(b *testing.B) {
	up := serve(b, serverOf(newShelf()), 0)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", up.address)
		if err != nil {
			b.Fatal(err)
		}
		a, err := Request(b.Context(), c, plain())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.Echo(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := a.Release(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
