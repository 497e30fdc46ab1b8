package dicom

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of places that cannot be, and of associations and instances that are not taken. Those with no note are Illegal.
const (
	CodeListen           gantry.Code = "listen"              // Unavailable: the address is taken, or none of this machine
	codeBadTLS           gantry.Code = "bad_tls"             // a certificate, a key or an authority cannot be read
	codeUnlike           gantry.Code = "unlike_places"       // two places at one address with different TLS
	codeCalled           gantry.Code = "called_ae"           // Denied: nobody is called so there
	codeCalling          gantry.Code = "calling_ae"          // Denied: who calls is not allowed to
	codeBusy                         = gantry.CodeTooMany    // Unavailable: over the limit of associations
	codeBadUID           gantry.Code = "bad_uid"             // a UID of the command is none
	codeClassMismatch    gantry.Code = "sop_class_mismatch"  // command and data set say different SOP classes
	codeInstanceMismatch gantry.Code = "uid_mismatch"        // command and data set say different SOP Instance UIDs
	codeNobody           gantry.Code = "nobody_takes_it"     // Denied: of those who wait at the title nobody waits for it
	codeBroken           gantry.Code = "association_aborted" // Transient
)

// Options say what a Port works with.
type Options struct {
	// Blobs gives where bytes are staged; an error while there is nowhere.
	Blobs func() (gantry.Blobs, error)
	Grace time.Duration // for operations under way at the end; 0: 10 s
	Log   *slog.Logger
	Now   func() time.Time
}

// Port is where peers call: the addresses, and who is called there by which AE title. It is safe for concurrent use.
type Port struct {
	opts Options

	mu        sync.Mutex
	doors     map[string]*door // by address
	serving   context.Context  // nil: not yet
	listening sync.WaitGroup
}

// NewPort makes a port on which nobody is called.
func NewPort(o Options) *Port {
	o.Grace = cmp.Or(o.Grace, 10*time.Second)
	return &Port{opts: o, doors: map[string]*door{}}
}

// Add gives somebody his place, also while the port serves; one who is not called has none. What cannot be served beside what
// is there already is Illegal, an address that cannot be listened at Unavailable with code listen.
func (p *Port) Add(c Called) error {
	place, desk, ok := c.Called()
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.doors[place.Listen]
	if d != nil {
		return d.add(place, desk)
	}
	d, err := newDoor(p, place)
	if err != nil {
		return err
	}
	if p.serving != nil {
		if err := d.listen(p.serving); err != nil {
			return err
		}
		p.begin(d)
	}
	p.doors[place.Listen] = d
	return d.add(place, desk)
}

// Empty tells whether nobody is called.
func (p *Port) Empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.doors) == 0
}

// Serve listens at all addresses until ctx ends, and then brings what is under way to its end. An address that cannot be
// listened at is Unavailable with code listen, and then none is.
func (p *Port) Serve(ctx context.Context) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	p.listening.Wait()
	return nil
}

func (p *Port) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.doors {
		if err := d.listen(ctx); err != nil {
			for _, d := range p.doors {
				d.close()
			}
			return err
		}
	}
	p.serving = ctx
	for _, d := range p.doors {
		p.begin(d)
	}
	return nil
}

func (p *Port) begin(d *door) {
	ctx := p.serving
	p.listening.Go(func() {
		if err := d.server().Serve(ctx, d.socket, p.opts.Grace); err != nil && ctx.Err() == nil {
			p.opts.Log.Error("dicom listener", "listen", d.address, "code", string(gantry.CodeOf(err)), "err", err)
		}
	})
}

// door is one address.
type door struct {
	port          *Port
	address       string
	cert, key, ca string
	tls           *tls.Config
	socket        net.Listener
	last          atomic.Int64 // size of the file that came last over any association, but for large ones

	mu     sync.Mutex
	titles map[string]*title
}

// title is an AE title at an address.
type title struct {
	name   string
	stands []stand
	open   int
	peers  map[caller]int
}

// stand is somebody who is called by a title.
type stand struct {
	Place
	Desk
}

func newDoor(p *Port, place Place) (*door, error) {
	d := &door{port: p, address: place.Listen, cert: place.Cert, key: place.Key, ca: place.CA, titles: map[string]*title{}}
	var err error
	d.tls, err = serverTLS(place)
	return d, err
}

func (d *door) add(place Place, desk Desk) error {
	if place.Cert != d.cert || place.Key != d.key || place.CA != d.ca {
		return gantry.Errorf(gantry.Illegal, codeUnlike, "listen at %s: AE titles at one address have the same certificate, key and authority", d.address)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.titles[place.AET]
	if t == nil {
		t = &title{name: place.AET, peers: map[caller]int{}}
		d.titles[place.AET] = t
	}
	t.stands = append(slices.Clone(t.stands), stand{place, desk}) // sessions hold the list as it was
	slices.SortStableFunc(t.stands, func(a, b stand) int {
		switch {
		case a.Last == b.Last:
			return 0
		case a.Last:
			return 1
		}
		return -1
	})
	return nil
}

func (d *door) listen(ctx context.Context) (err error) {
	if d.socket, err = (&net.ListenConfig{}).Listen(ctx, "tcp", d.address); err != nil {
		return gantry.Errorf(gantry.Unavailable, CodeListen, "listen for DICOM: %w", err)
	}
	return nil
}

func (d *door) close() {
	if d.socket != nil {
		d.socket.Close()
		d.socket = nil
	}
}

// maxDoor bounds the associations to one address, whatever its titles say.
const maxDoor = 1024

func (d *door) server() *dimse.Server {
	return &dimse.Server{Admit: d.admit, Most: maxDoor, TLS: d.tls, Log: func(_ netip.AddrPort, err error) {
		d.port.opts.Log.Debug("no association", "listen", d.address, "code", string(gantry.CodeOf(err)))
	}}
}

// watching are those at the address who want to know what happens, those of a title first if there is one.
func (d *door) watching(called string) (out []Watching) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, t := range d.titles {
		if called != "" && name != called {
			continue
		}
		for _, s := range t.stands {
			if w, ok := s.Desk.(Watching); ok {
				out = append(out, w)
			}
		}
	}
	return out
}
