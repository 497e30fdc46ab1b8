//go:build !linux

package localpg

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// mayServe tells whether a living process may be a server on data. ps joins the arguments with
// blanks, so a data directory with a blank in its name is not recognised as another one.
func mayServe(pid int, data string) bool {
	b, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false // no such process
	}
	return commandServes(strings.Fields(string(b)), data)
}

// syncTree makes everything below dir durable, file by file.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && !d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
