package gantry

import (
	"path"
	"testing"
)

// What no name of a result matches was made for inputs alone; all else may take results.
func TestMayBeResult(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*", "*.dcm", "[0-9]*", "[!_]*", "*.json", "*.zip", "*.gz", "*.tar.*", "task*", "task-12.png", "t?sk.dcm", "00000[3-5].png", "1234567890-2.bin", "*-3.jpg",
		"[0-9]*.dcm", "rejoined.mp4", "r*.mkv", "_manifest.json", "_*", "*manifest*", "?????????????.json", "[\\0-9]*", "*0*0*.npy", "*.?ar"} {
		if !MayBeResult(pattern) {
			t.Errorf("%s: results are called so", pattern)
		}
	}
	for _, pattern := range []string{"*.nii", "*.DCM", "scan-*", "IM*.dcm", "*_seg.dcm", "*.dcm.done", "_done", "?.dcm", "00001.dcm", "task-.dcm", "task-a*", "rejoined-2.dcm", "000001", "[a-q]*",
		"000001[.]dcm.gz", "*.tgz", `\*.dcm`, "*é*", "", "[", "[]a]*", "[^]a]*"} {
		if MayBeResult(pattern) {
			t.Errorf("%s: no result is called so", pattern)
		}
	}
}

// FuzzMayBeResult: a pattern that matches some name may be a result's.
func FuzzMayBeResult(f *testing.F) {
	for _, pattern := range []string{"*.dcm", "[0-9]*", `[\]0]*`, `\0*`, "0[^a-c]*[0-9]?*", "[[0]*"} {
		f.Add(pattern)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		for _, name := range []string{"000001.dcm", "1000000-12.tar.gz", "task.json", "task-2.zip", "rejoined.mp4", ManifestName} {
			if ok, err := path.Match(pattern, name); ok && err == nil && !MayBeResult(pattern) {
				t.Errorf("%q matches %s", pattern, name)
			}
		}
	})
}
