package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type blobsCmd struct {
	GC blobsGCCmd `cmd:"" name:"gc" help:"Give blobs that nothing refers to a tombstone, and delete those whose tombstone is old enough."`
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
