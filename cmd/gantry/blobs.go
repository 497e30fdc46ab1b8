package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type blobsCmd struct {
	GC    blobsGCCmd    `cmd:"" name:"gc" help:"Give blobs that nothing refers to a tombstone, and delete those whose tombstone is old enough."`
	Claim blobsClaimCmd `cmd:"" help:"Make the blob store belong to this database, since the one that it belonged to is lost."`
}

type blobsGCCmd struct {
	DryRun bool          `name:"dry-run" help:"Say what would be done, and change nothing."`
	Grace  time.Duration `help:"How old a tombstone has to be, at least 1h; blob_grace of the deployment file without it, else 168h."`
	JSON   bool          `help:"Print JSON."`
}

// Run is called by the parser.
func (g *blobsGCCmd) Run(ctx context.Context, c console, x *cli) error {
	if g.Grace != 0 && g.Grace < time.Hour {
		return usageError{fmt.Errorf("grace: at least 1h: a blob must be left alone until what refers to it is written")}
	}
	return x.withApp(ctx, c, func(*app.Settings) {}, func(a *app.App) error {
		done, err := a.CollectBlobs(ctx, g.Grace, g.DryRun)
		if err != nil {
			return err
		}
		if g.JSON {
			return json.NewEncoder(c.out).Encode(done)
		}
		fmt.Fprint(c.out, collected(done, g.DryRun))
		return nil
	})
}

type blobsClaimCmd struct {
	Yes bool `help:"Do not ask."`
}

// Run is called by the parser.
func (b *blobsClaimCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withApp(ctx, c, func(*app.Settings) {}, func(a *app.App) error {
		about, database, err := a.BlobOwner(ctx)
		if err != nil {
			return err
		}
		former := about.Owner.Database
		if former == database {
			fmt.Fprintf(c.out, "blob store %s belongs to this database already\n", about.ID)
			return nil
		}
		if former == "" {
			former = "none"
		}
		fmt.Fprintf(c.out, "blob store  %s\nbelongs to  database %s\nthis is     database %s\n", about.ID, former, database)
		if !b.Yes {
			if err := confirm(os.Stdin, term.IsTerminal(int(os.Stdin.Fd())), c.err, "what the other database refers to is garbage to this one; claim the blob store"); err != nil {
				return err
			}
		}
		if err := a.ClaimBlobs(ctx); err != nil {
			return err
		}
		fmt.Fprintln(c.out, "claimed: the blob store belongs to this database")
		return nil
	})
}

func collected(done blob.Collected, dry bool) string {
	head := ""
	if dry {
		head = "would be: "
	}
	return fmt.Sprintf("%sfound without a row %d, tombstones set %d (%d bytes), deleted %d (%d bytes)\n", head, done.Adopted, done.Tombs, done.TombBytes, done.Deleted, done.DeleteBytes)
}

// blobBucket is what the deployment file says about the bucket of the blob store.
func blobBucket(d pipeline.BlobBucket) app.BlobBucket {
	return app.BlobBucket{Endpoint: d.Endpoint, Region: d.Region, PathStyle: d.PathStyle, Auth: &gantry.Credential{
		AccessKeyID: d.AccessKeyID, SecretAccessKey: d.SecretAccessKey, SessionToken: d.SessionToken, Profile: d.Profile, RoleARN: d.RoleARN}}
}
