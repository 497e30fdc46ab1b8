package main

import (
	"cmp"
	"fmt"
	"net/url"
	"os"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// deployment reads the deployment file; without one it is empty. What flags and their environment
// variables say goes before what stands in it.
func (x *cli) deployment() (*pipeline.Deployment, error) {
	if x.Config == "" {
		return &pipeline.Deployment{}, nil
	}
	return pipeline.LoadDeployment(x.Config, all.Drivers(), os.LookupEnv)
}

// settings are what the shared flags and the deployment file say.
func (x *cli) settings(c console) (app.Settings, error) {
	d, err := x.deployment()
	if err != nil {
		return app.Settings{}, err
	}
	s := app.Settings{Home: cmp.Or(x.Home, d.Home), DatabaseURL: x.DatabaseURL, Blobs: d.Blobs, Key: x.Key, Drivers: all.Drivers(),
		Log: newLog(c.err, cmp.Or(x.LogLevel, d.Log.Level), cmp.Or(x.LogFormat, d.Log.Format)), Tasks: d.Tasks, TTL: d.Lease, Grace: d.Grace,
		CallbackURL: d.Callbacks, Signatures: app.CallbackSignatures, BlobBucket: blobBucket(d.Bucket), BlobGrace: d.BlobGrace}
	if s.DatabaseURL == "" {
		if s.DatabaseURL, err = databaseURL(d.Database); err != nil {
			return s, usageError{err}
		}
	}
	if s.DatabaseURL == "" && (os.Getenv("PGHOST") != "" || os.Getenv("PGSERVICE") != "" || os.Getenv("PGDATABASE") != "") {
		s.DatabaseURL = "postgres://" // the PG* variables say the rest
	}
	if s.Key == "" && d.Key != "" {
		key, err := auth.Resolve(d.Key, os.LookupEnv)
		if err != nil {
			return s, usageError{fmt.Errorf("deployment key: %w", err)}
		}
		s.Key = key.Reveal()
	}
	return s, nil
}

// databaseURL puts the password into the address.
func databaseURL(d pipeline.DatabaseAt) (string, error) {
	if d.Password == "" {
		return d.URL, nil
	}
	password, err := auth.Resolve(d.Password, os.LookupEnv)
	if err != nil {
		return "", fmt.Errorf("database password: %w", err)
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return "", fmt.Errorf("database url: it is no URL") // its text may hold anything
	}
	u.User = url.UserPassword(u.User.Username(), password.Reveal())
	return u.String(), nil
}
