package app

import (
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// mostScans is how many files are remembered to have passed the scanner: several studies, in 2 MiB.
const mostScans = 1 << 14

// scans remembers which DICOM files passed the scanner as they came, by the digest of their bytes, so that their task, which
// most often runs in the same process and soon, need not go through them again. The zero value is ready.
type scans struct {
	mu       sync.Mutex
	warnings map[gantry.Digest]gantry.Code // empty: none
	order    []gantry.Digest               // as they came, a ring
	next     int
}

// passed notes a file that passed with a warning, or without.
func (s *scans) passed(sha gantry.Digest, warning gantry.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.warnings[sha]; known {
		return
	}
	if s.warnings == nil {
		s.warnings = map[gantry.Digest]gantry.Code{}
	}
	if len(s.order) < mostScans {
		s.order = append(s.order, sha)
	} else {
		delete(s.warnings, s.order[s.next])
		s.order[s.next] = sha
		s.next = (s.next + 1) % mostScans
	}
	s.warnings[sha] = warning
}

// of tells whether a file passed, and with which warning.
func (s *scans) of(sha gantry.Digest) (warning gantry.Code, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	warning, ok = s.warnings[sha]
	return warning, ok
}
