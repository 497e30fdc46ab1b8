package dimse

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What we call ourselves (PS3.7 section D.3.3.2): as in the file meta information of objects that we make.
const (
	implementationClass   = "2.25.76683766776530815108235131587827429264"
	implementationVersion = "GANTRY"
	defaultMaxPDU         = 128 << 10
	assumedMaxPDU         = 16 << 10 // of a peer that says nothing, against PS3.8 annex D.1
	maxWindow             = 0xFFFF
)

// request makes the A-ASSOCIATE-RQ of params.
func (p Params) request() (*associate, error) {
	illegal := func(what string) error {
		return gantry.Errorf(gantry.Illegal, CodeBadParams, "request association: %s", what)
	}
	switch {
	case !validTitle(p.Calling) || !validTitle(p.Called):
		return nil, illegal("an AE title is not 1 to 16 characters of ASCII, without control characters and backslash")
	case len(p.Contexts) == 0 || len(p.Contexts) > maxContexts:
		return nil, illegal("there are not 1 to 128 presentation contexts")
	case p.MaxPDU < 0 || p.Window < 0 || p.Window > maxWindow:
		return nil, illegal("a number is out of range")
	}
	m := &associate{kind: pduAssociateRQ, version: 1, called: p.Called, calling: p.Calling, application: applicationContext}
	for i, c := range p.Contexts {
		if c.Abstract == "" || len(c.Transfer) == 0 || len(c.Transfer) > maxTransfers {
			return nil, illegal("a presentation context has no abstract syntax, or not 1 to 256 transfer syntaxes")
		}
		m.contexts = append(m.contexts, presentation{id: byte(2*i + 1), abstract: c.Abstract, transfer: c.Transfer})
		if (c.SCU || c.SCP) && !slices.ContainsFunc(m.user.roles, func(r role) bool { return r.class == c.Abstract }) {
			m.user.roles = append(m.user.roles, role{class: c.Abstract, scu: c.SCU, scp: c.SCP})
		}
	}
	m.user.introduce(p.MaxPDU)
	m.user.identity = p.Identity
	if p.Window > 1 {
		m.user.window = &window{invoked: uint16(p.Window), performed: 1}
	}
	return m, nil
}

// introduce fills in who we are and what we take.
func (u *userInfo) introduce(maxPDU int) {
	u.maxPDU, u.limited = limitOf(maxPDU), true
	u.class, u.version = implementationClass, implementationVersion
}

// limitOf is the maximum length that we announce for what we were told; 0 is the default.
func limitOf(maxPDU int) uint32 {
	if maxPDU <= 0 {
		return defaultMaxPDU
	}
	return uint32(min(max(maxPDU, 4<<10), 1<<30))
}

// validTitle holds an AE title of ours to PS3.5 section 6.2.
func validTitle(s string) bool {
	return len(s) <= titleSize && strings.TrimSpace(s) != "" &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' })
}

// peerOf fills in what an association's request or answer says of the peer.
func (p *Peer) learn(m *associate) {
	p.Implementation, p.Version = m.user.class, m.user.version
	if p.MaxPDU = m.user.maxPDU; !m.user.limited {
		p.MaxPDU = assumedMaxPDU
	}
}

// proposal is what a peer asks for. Its contexts are those of m, in the same order.
func proposal(p Peer, m *associate) Proposal {
	p.Calling, p.Called = m.calling, m.called
	p.learn(m)
	p.Window = 1
	if w := m.user.window; w != nil {
		p.Window = int(w.invoked)
	}
	out := Proposal{Peer: p, Identity: m.user.identity}
	for _, c := range m.contexts {
		scu, scp := m.user.roleOf(c.abstract)
		out.Contexts = append(out.Contexts, Context{Abstract: c.abstract, Transfer: c.transfer, SCU: scu, SCP: scp})
	}
	return out
}

// roleOf is the role selection for a SOP class; neither if there is none. Of several the last counts.
func (u *userInfo) roleOf(class string) (scu, scp bool) {
	for _, r := range u.roles {
		if r.class == class {
			scu, scp = r.scu, r.scp
		}
	}
	return scu, scp
}

// answerTo makes the A-ASSOCIATE-AC for a request on our terms. Roles are accepted as they were proposed; an identity that Admit took is
// confirmed if that was asked for.
func answerTo(m *associate, p Proposal, t Terms) (*associate, []Accepted, int) {
	ac := &associate{kind: pduAssociateAC, version: 1, called: m.called, calling: m.calling, application: applicationContext}
	var accepted []Accepted
	for i, c := range m.contexts {
		out := presentation{id: c.id, result: resultAccepted, transfer: c.transfer[:1]}
		switch at := t.Accept(p.Contexts[i]); {
		case at >= 0 && at < len(c.transfer):
			out.transfer = c.transfer[at : at+1]
			accepted = append(accepted, acceptedOf(c.id, c.abstract, c.transfer[at], p.Contexts[i].SCU, p.Contexts[i].SCP))
		case at == -1:
			out.result = resultNoAbstract
		case at == -2:
			out.result = resultNoTransfer
		default:
			out.result = resultUser
		}
		ac.contexts = append(ac.contexts, out)
	}
	for _, r := range m.user.roles {
		if slices.ContainsFunc(accepted, func(c Accepted) bool { return c.Abstract == r.class }) {
			ac.user.roles = append(ac.user.roles, r)
		}
	}
	sortAccepted(accepted)
	ac.user.introduce(t.MaxPDU)
	ac.user.answered = m.user.identity != nil && m.user.identity.Response
	ours, agreed := min(max(t.Window, 1), maxWindow), 1
	if w := m.user.window; w != nil {
		if agreed = int(w.invoked); agreed == 0 || agreed > ours {
			agreed = ours
		}
		ac.user.window = &window{invoked: uint16(agreed), performed: 1}
	}
	return ac, accepted, agreed
}

// acceptedOf is an accepted context; without role selection the requestor is the SCU.
func acceptedOf(id byte, abstract, transfer string, scu, scp bool) Accepted {
	return Accepted{ID: id, Abstract: abstract, Transfer: transfer, SCU: scu || !scp, SCP: scp}
}

func sortAccepted(c []Accepted) {
	slices.SortFunc(c, func(x, y Accepted) int { return cmp.Compare(x.ID, y.ID) })
}

// agreed reads an A-ASSOCIATE-AC beside the request that it answers: the contexts, and how many operations we may invoke at once.
func agreed(rq, ac *associate) ([]Accepted, int, error) {
	var accepted []Accepted
	for _, c := range ac.contexts {
		i := slices.IndexFunc(rq.contexts, func(p presentation) bool { return p.id == c.id })
		if i < 0 {
			return nil, 0, malformed("an answer to a presentation context that was not proposed")
		}
		if c.result != resultAccepted {
			continue
		}
		asked := rq.contexts[i]
		if !slices.Contains(asked.transfer, c.transfer[0]) {
			return nil, 0, malformed("an answer with a transfer syntax that was not proposed")
		}
		wantSCU, wantSCP := rq.user.roleOf(asked.abstract)
		scu, scp := ac.user.roleOf(asked.abstract)
		accepted = append(accepted, acceptedOf(c.id, asked.abstract, c.transfer[0], scu && wantSCU, scp && wantSCP))
	}
	if id := rq.user.identity; id != nil && id.Response && !ac.user.answered {
		return nil, 0, gantry.Errorf(gantry.Denied, CodeIdentityIgnored, "request association: the peer does not confirm the identity")
	}
	sortAccepted(accepted)
	window := 1
	if w := rq.user.window; w != nil && ac.user.window != nil {
		if window = int(ac.user.window.invoked); window == 0 || window > int(w.invoked) {
			window = int(w.invoked)
		}
	}
	return accepted, window, nil
}
