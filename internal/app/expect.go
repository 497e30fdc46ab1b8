package app

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// countable is a member whose instance an archive may count.
func (in *intake) countable(x gantry.Gathering, tags map[string]string) gantry.Gathering {
	if x.Rules.Expect == nil {
		return x
	}
	if study := tags[groupKeywords[gantry.GroupStudy]]; dicom.ValidUID(study) {
		x.Study = study
	}
	if uid := tags["SOPInstanceUID"]; uid != "" {
		mac := gantry.MAC(in.app.Key, "instance", uid)
		x.Instance = int64(binary.BigEndian.Uint64(mac[:]))
	}
	return x
}

// archive opens the archive of a pipeline when it is first asked, in whatever process; nil if there is none.
func (p *plans) archive(x *gantry.Pipeline) func(context.Context) (gantry.Expecting, int32, error) {
	if x.Collect == nil || x.Collect.Expect == nil {
		return nil
	}
	e := x.Collect.Expect.Endpoint
	var mu sync.Mutex
	var archive gantry.Expecting
	var limiter int32
	return func(ctx context.Context) (_ gantry.Expecting, _ int32, err error) {
		mu.Lock()
		defer mu.Unlock()
		if archive != nil {
			return archive, limiter, nil
		}
		target := targetOf(e.Config)
		if limiter, err = p.app.Store.EnsureLimiter(ctx, target.Key(), gantry.LimiterSpec{MaxUnits: -1, Hold: time.Minute}, false); err != nil {
			return nil, 0, err
		}
		egress, err := p.egress(target, e.Auth, objects)
		if err == nil {
			archive, err = p.app.Drivers.NewArchive(ctx, e.Kind, e.Config, egress)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("archive: %w", err)
		}
		return archive, limiter, nil
	}
}
