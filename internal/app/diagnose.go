package app

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/doctor"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Diagnose looks at the installation that the settings name, and at the targets of pipelines. The
// error is one of the settings themselves.
func Diagnose(ctx context.Context, s Settings, pipelines []*gantry.Pipeline) ([]doctor.Finding, error) {
	s = s.withDefaults()
	key, err := hex.DecodeString(strings.TrimSpace(s.Key))
	if err != nil {
		return nil, errors.New("deployment key: it is not hexadecimal")
	}
	o := doctor.Options{Home: s.Home, DatabaseURL: s.DatabaseURL, Blobs: s.Blobs, Key: key, Pipelines: pipelines, Now: time.Now}
	if s.inBucket() {
		o.Blobs, o.Bucket = s.Home, func(ctx context.Context) (string, error) { return s.inspectBucket(ctx, key) }
	}
	return doctor.Examine(ctx, o), nil
}
