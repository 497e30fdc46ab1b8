package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// measureSend has `gantry send` and dcmsend send images to the same storescp, in turns.
func measureSend(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	if err := needPeers("dcmsend", "storescp"); err != nil {
		return err
	}
	program, err := filepath.Abs(s.binary)
	if err != nil {
		return err
	}
	load, err := b.draw(s.images)
	if err != nil {
		return err
	}
	to, err := b.startStorescp("send_storescp")
	if err != nil {
		return err
	}
	defer to.stop()
	own := func(ctx context.Context) (time.Duration, error) {
		study, err := load.write(s.images)
		if err != nil {
			return 0, err
		}
		c := exec.CommandContext(ctx, program, "send", "--calling", "BENCH0", "--called", to.title, "127.0.0.1:"+strconv.Itoa(to.port), study.Dir)
		took, err := quiet(ctx, c)
		if err != nil {
			return 0, err
		}
		return took, to.holds(len(study.Files))
	}
	peer := func(ctx context.Context) (time.Duration, error) {
		study, err := load.write(s.images)
		if err != nil {
			return 0, err
		}
		return to.take(ctx, study.Files, 1)
	}
	race, err := versus(ctx, s.rounds, own, peer)
	if err != nil {
		return err
	}
	r.add("send_vs_dcmsend", race.ratio(), "ratio", atLeast(1), "gantry send beside dcmsend, %d images, %.0f MB, to the same storescp --fork, each with one association; %s", s.images, float64(load.bytes)/1e6, race.note("gantry", "dcmsend"))
	return nil
}
