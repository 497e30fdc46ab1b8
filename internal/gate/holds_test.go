package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// outcomes is a session that keeps what is committed of calls that ended.
type outcomes struct {
	desk
	list []gantry.Outcome
}

func (o *outcomes) Commit(_ context.Context, x *gantry.Write) error {
	if x.Outcome != nil {
		o.list = append(o.list, *x.Outcome)
	}
	return nil
}

// TestHolds has what a call sent looked at before anything of it is kept. A call that failed by itself is not looked at.
func TestHolds(t *testing.T) {
	t.Parallel()
	broken := errors.New("broke")
	other := gantry.Errorf(gantry.Illegal, gantry.CodeCorrupt, "other bytes")
	for name, c := range map[string]struct {
		sent, holds, want error
		looked            int
		result            gantry.Result
		code              gantry.Code
	}{
		"right":  {looked: 1},
		"wrong":  {holds: other, want: other, looked: 1, result: gantry.ResultFailed, code: gantry.CodeCorrupt},
		"failed": {sent: broken, holds: other, want: broken, result: gantry.ResultFailed, code: "transient"},
	} {
		o := &outcomes{desk: desk{alive: true}}
		looked := 0
		var sealed error
		spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtProcessor}, Holds: func(*gantry.Outcome) error { looked++; return c.holds }}
		err := New(o, gantry.NewIDs(time.Now, rand.Reader), time.Now).Call(t.Context(), spec,
			func(ctx context.Context) error { MeterFrom(ctx).Began(); return c.sent },
			func(_ context.Context, err error) (*gantry.Write, error) { sealed = err; return nil, err })
		if err != c.want || sealed != c.want || looked != c.looked {
			t.Errorf("%s: %v, sealed with %v, looked at %d times", name, err, sealed, looked)
		}
		if len(o.list) != 1 || o.list[0].Result != c.result || o.list[0].Code != c.code {
			t.Errorf("%s: on record is %+v", name, o.list)
		}
	}
}
