package engine

import (
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sealed holds what is read of an item to the seal of its bytes, until their digest is known. What turns out to be something else is
// Illegal with code blob_corrupt in the place of the last bytes.
func sealed(x gantry.Item, bytes any, r io.Reader) io.Reader {
	seal, size, ok := gantry.SealOf(bytes)
	if !ok || !x.SHA.IsZero() {
		return r
	}
	return &held{r: r, seal: seal, left: size, sum: gantry.NewSealer(seal.From)}
}

// held is a reader from the first byte on.
type held struct {
	r    io.Reader
	seal gantry.Seal
	left int64 // bytes to the end
	sum  *gantry.Sealer
	err  error
}

// Read passes bytes on, the last of them only if all are right.
func (h *held) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	if h.left -= int64(n); n == 0 || h.left > 0 {
		return n, err
	}
	if got, _ := h.sum.Sum(); got != h.seal {
		h.err = corrupt()
		return 0, h.err
	}
	return n, err
}
