package dimsetest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/sample"
)

// Study is a CT of one series in Part 10 files, with UIDs that no other has.
type Study struct {
	Dir       string
	Files     []string // one for each slice
	UID       string   // Study Instance UID
	Instances []string // SOP Instance UIDs, in the order of Files
}

// NewStudy writes a study of slices axial images of size x size pixels for a test.
func NewStudy(t testing.TB, slices, size int) Study {
	t.Helper()
	drawn, err := Draw(slices, size)
	if err != nil {
		t.Fatal(err)
	}
	s, err := drawn.Write(t.TempDir(), slices)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Drawn is the images of a study, to be written any number of times.
type Drawn struct {
	files [][]byte
	uids  [][3]string // of each file: study, series, instance
}

// distinct is how many images a study has at most; more are made of the same again. An image of 512 x 512 takes 0.2 s to draw.
const distinct = 12

// Draw makes the images for studies of so many slices.
func Draw(slices, size int) (*Drawn, error) {
	files, err := sample.CT(min(slices, distinct), size)
	if err != nil {
		return nil, err
	}
	d := &Drawn{files: files}
	for i, f := range files {
		uids := [3]string{value(f, 0x20, 0x0d), value(f, 0x20, 0x0e), value(f, 0x08, 0x18)}
		if uids[0] == "" || uids[1] == "" || uids[2] == "" {
			return nil, fmt.Errorf("slice %d has no UIDs", i+1)
		}
		d.uids = append(d.uids, uids)
	}
	return d, nil
}

// value is that of an element of explicit VR little endian with VR UI, of the first place where its tag stands.
func value(file []byte, group, number byte) string {
	at := bytes.Index(file, []byte{group, 0, number, 0, 'U', 'I'})
	if at < 0 || at+8 > len(file) {
		return ""
	}
	n := int(file[at+6]) | int(file[at+7])<<8
	return strings.TrimRight(string(file[at+8:min(len(file), at+8+n)]), "\x00")
}

// Write makes the files of a new study in dir, named by their numbers. The UIDs are as long as those they replace, so sizes stay.
func (d *Drawn) Write(dir string, slices int) (Study, error) {
	s := Study{Dir: dir}
	series := ""
	for i := range slices {
		k := i % len(d.files)
		if i == 0 {
			s.UID, series = fresh(d.uids[k][0]), fresh(d.uids[k][1])
		}
		instance := fresh(d.uids[k][2])
		b := bytes.Clone(d.files[k])
		for j, uid := range []string{s.UID, series, instance} {
			b = bytes.ReplaceAll(b, []byte(d.uids[k][j]), []byte(uid))
		}
		file := filepath.Join(dir, fmt.Sprintf("%05d.dcm", i+1))
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return Study{}, err
		}
		s.Files, s.Instances = append(s.Files, file), append(s.Instances, instance)
	}
	return s, nil
}

// fresh is a UID below 2.25 that is as long as another (PS3.5 annex B.2).
func fresh(uid string) string {
	digits := len(uid) - len("2.25.")
	least := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits-1)), nil)
	n, _ := rand.Int(rand.Reader, new(big.Int).Mul(least, big.NewInt(2))) // crypto/rand gives no errors
	return "2.25." + n.Add(n, least).String()
}
