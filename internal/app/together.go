package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// together puts the inputs of a run together as its pipeline does with what arrives. They are all there, so nothing is waited
// for: each group is one collection, which is closed at once. Folders are counted below the one that all inputs lie in, and
// what lies in that itself is a group too.
func (r *run) together(ctx context.Context, in *intake, feeds map[string]*feed) error {
	root := commonFolder(r.opts.Inputs)
	members := make([]*gantry.Gathering, len(r.opts.Inputs)) // nil: a task of its own, or a marker
	ids := make([]string, len(r.opts.Inputs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, f := range feeds {
		f.collect = r.plan.Collect
	}
	for i, input := range r.opts.Inputs {
		g.Go(func() (err error) {
			below, err := filepath.Rel(root, input)
			if err == nil {
				members[i], ids[i], err = r.member(gctx, in, feeds[filepath.Dir(input)], i, filepath.ToSlash(below))
			}
			if err != nil {
				return fmt.Errorf("read input %d: %w", i+1, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var list []gantry.Gathering
	size := map[gantry.Digest]int{}
	for i, x := range members {
		if x != nil {
			list, ids[i] = append(list, *x), r.app.collectionID(x.Pipeline, x.Arrival.Source, x.Group, 0)
			size[x.Group]++
		}
	}
	for i := range list {
		list[i].Rules = gantry.Collect{By: list[i].Rules.By, Count: size[list[i].Group], Cap: list[i].Rules.Cap}
	}
	if _, err := r.app.Store.Gather(ctx, list); err != nil {
		return err
	}
	r.expect(ids)
	return closeAll(ctx, newCloser(r.app, in.wake))
}

// member makes an input's bytes durable and gives what it is to be taken in with, or the id of the task that it is alone. A marker
// is neither.
func (r *run) member(ctx context.Context, in *intake, f *feed, i int, below string) (*gantry.Gathering, string, error) {
	input, token := r.opts.Inputs[i], fmt.Sprintf("%s/%d", r.token, i)
	group, name, _ := folderOf(below, f.collect.Depth)
	if is, err := path.Match(f.collect.Marker, name); f.collect.Marker != "" && is && err == nil {
		return nil, "", nil
	}
	info, err := os.Stat(input)
	if err != nil {
		return nil, "", err
	}
	o := gantry.Object{Ref: filepath.Base(input), Name: filepath.Base(input), Size: info.Size()}
	a := gantry.Arrival{Source: f.name, RefMAC: gantry.MAC(in.app.Key, "ref", f.name, token), Name: clean(below)}
	if a.ID, err = in.nextID(ctx); err != nil {
		return nil, "", err
	}
	if err := in.copyIn(ctx, f, offer{Object: o, open: openerOf(f, o), limit: maxOriginal}, &a); err != nil {
		return nil, "", err
	}
	a.Version = a.SHA.String()
	if keyword := groupKeywords[f.collect.By]; keyword != "" {
		tags, err := in.headerOf(ctx, f, a)
		if err != nil && gantry.KindOf(err) != gantry.Illegal {
			return nil, "", err
		}
		group = tags[keyword]
		if err != nil || group == "" {
			got, err := in.accept(ctx, f, o, token)
			return nil, got.id, err
		}
	}
	x := in.gathering(way{f.plan, f.lane, f.collect}, f, a, group)
	if group == "" {
		x.Name = "" // no folder
	}
	x.Group = gantry.MAC(in.app.Key, "group", f.name, r.token, group)
	return &x, "", nil
}

func openerOf(f *feed, o gantry.Object) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return f.source.Open(ctx, o.Ref) }
}

// expect says which tasks the inputs become: each once, under the first of its inputs.
func (r *run) expect(ids []string) {
	r.mu.Lock()
	var inputs, tasks []string
	seen := map[string]bool{"": true}
	for i, id := range ids {
		if !seen[id] {
			seen[id] = true
			inputs, tasks = append(inputs, r.opts.Inputs[i]), append(tasks, id)
		}
	}
	r.opts.Inputs, r.ids, r.total = inputs, make([]string, len(tasks)), len(tasks)
	r.check() // there may be nothing but markers
	r.mu.Unlock()
	for i, id := range tasks {
		r.enqueued(i, id)
	}
}

// closeAll closes what is due, until nothing is: another process may be closing some of it.
func closeAll(ctx context.Context, c *closer) error {
	for {
		next, err := c.app.Store.NextDue(ctx)
		if err != nil || next != 0 {
			return err
		}
		if _, err := c.close(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(closeSoon):
		}
	}
}

// commonFolder is the deepest folder that all files lie in, or below.
func commonFolder(files []string) string {
	if len(files) == 0 {
		return ""
	}
	folder := filepath.Dir(files[0])
	for _, file := range files[1:] {
		for !strings.HasPrefix(file, strings.TrimSuffix(folder, "/")+"/") {
			folder = filepath.Dir(folder)
		}
	}
	return folder
}
