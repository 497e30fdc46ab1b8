package dicom

import (
	"bytes"
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// debt is one as it stands.
type debt struct {
	gantry.Debt
	due   time.Time
	over  bool
	given gantry.Code
}

func (k *keeper) Owe(_ context.Context, d gantry.Debt, hold time.Duration) (gantry.Debt, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.debts == nil {
		k.debts = map[int64]*debt{}
	}
	for _, x := range k.debts {
		if x.Peer != d.Peer || x.Name != d.Name {
			continue
		}
		if !bytes.Equal(x.Request, d.Request) {
			return d, gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "owe")
		}
		x.Turn, x.Tries, x.due, x.over, x.given = x.Turn+1, 0, time.Now().Add(hold), false, ""
		return x.Debt, nil
	}
	d.ID = int64(len(k.debts) + 1)
	if k.err == nil {
		k.debts[d.ID] = &debt{Debt: d, due: time.Now().Add(hold)}
	}
	return d, k.err
}

func (k *keeper) Due(_ context.Context, n int, hold time.Duration) (out []gantry.Debt, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, x := range k.debts {
		if !x.over && len(out) < n && !x.due.After(time.Now()) {
			x.Turn, x.due = x.Turn+1, time.Now().Add(hold)
			out = append(out, x.Debt)
		}
	}
	return out, k.err
}

func (k *keeper) Postpone(_ context.Context, d gantry.Debt, by time.Duration) error {
	return k.change(d, func(x *debt) { x.Tries, x.due = d.Tries, time.Now().Add(by) })
}

func (k *keeper) Settle(_ context.Context, d gantry.Debt, given gantry.Code) error {
	return k.change(d, func(x *debt) { x.over, x.given = true, given })
}

func (k *keeper) change(d gantry.Debt, to func(*debt)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if x := k.debts[d.ID]; x != nil && x.Turn == d.Turn && !x.over && k.err == nil {
		to(x)
	}
	return k.err
}

// owed gives the debts as they stand, by id.
func (k *keeper) owed() (out []debt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range int64(len(k.debts)) {
		out = append(out, *k.debts[id+1])
	}
	return out
}
