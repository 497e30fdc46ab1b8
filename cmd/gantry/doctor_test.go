package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/doctor"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestDoctor prints a line for each check, and fails for a target that is not there.
func TestDoctor(t *testing.T) {
	dsn := postgrestest.Durable(t)
	if code, out, errs := operated(t, dsn, "migrate"); code != exitOK {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	code, out, errs := operated(t, dsn, "doctor")
	if code != exitOK || errs != "" || !strings.Contains(out, "✓ schema: version ") || !strings.Contains(out, "✓ durability: fsync on") || strings.Contains(out, "✗") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, _ = operated(t, dsn, "doctor", "--json", "-f", "../../pipelines/first-light.yaml")
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitFailed || doctor.Sound(found) {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	if code, _, errs := operated(t, dsn, "--key", "zz", "doctor"); code != exitUsage || !strings.Contains(errs, "not hexadecimal") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := operated(t, dsn, "doctor", "-f", "../../pipelines/bad/when-keyword.yaml"); code != exitUsage || !strings.Contains(errs, "no DICOM keyword") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestMigrateKeepsThePassword: an address may hold a password, and what is printed ends up in logs.
func TestMigrateKeepsThePassword(t *testing.T) {
	u, err := url.Parse(postgrestest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "s3cret")
	code, out, errs := operated(t, u.String(), "migrate")
	if code != exitOK || !strings.HasPrefix(out, "the schema is up to date") || strings.Contains(out+errs, "s3cret") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}
