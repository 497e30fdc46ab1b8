package postgres

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed results.sql
var resultsSQL string

// section is one part of a statement that is put together of those that have rows.
type section struct {
	name string
	rows int
	args []any
}

// sections knows the parts of a file by their names, and the statements that were made of them. With
// few rows most of a statement's cost is its length.
type sections struct {
	text map[string]string
	flat map[string]bool // those whose rows are read out of unnested columns

	mu   sync.Mutex
	made map[string]string // by the names of the sections
}

var parameter = regexp.MustCompile(`\$[0-9]+`)

// newSections takes a file apart at its lines that begin with "-- section: NAME".
func newSections(file string) *sections {
	s := &sections{text: map[string]string{}, flat: map[string]bool{}, made: map[string]string{}}
	for _, part := range strings.Split(file, "\n-- section: ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		name := strings.TrimRight(strings.Fields(head)[0], ".,")
		s.text[name] = strings.TrimSpace(text)
		s.flat[name] = columns.MatchString(text)
	}
	return s
}

// statement puts the first section, those that have rows, and the one called answer together, and
// gives the arguments in the order of the parameters.
func (s *sections) statement(all ...section) (string, []any) {
	form := formFor(all)
	var args []any
	names := []string{string(form)}
	for i, x := range all {
		if i == 0 || x.rows > 0 {
			names = append(names, x.name)
			args = append(args, form.args(x, s.flat[x.name])...)
		}
	}
	key := strings.Join(names, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.made[key]
	if !ok {
		text = s.join(form, all)
		s.made[key] = text
	}
	return text, args
}

func (s *sections) join(form form, all []section) string {
	var parts []string
	base := 0
	for i, x := range all {
		if i > 0 && x.rows == 0 {
			continue
		}
		text := s.section(x.name)
		parts = append(parts, parameter.ReplaceAllStringFunc(form.text(text, len(x.args)), func(p string) string {
			n, _ := strconv.Atoi(p[1:])
			return "$" + strconv.Itoa(base+n)
		}))
		base += len(form.args(x, s.flat[x.name]))
	}
	return strings.Join(parts, ",\n") + "\n" + s.section("answer")
}

func (s *sections) section(name string) string {
	text, ok := s.text[name]
	if !ok {
		panic(fmt.Sprintf("postgres: no section %q", name))
	}
	return text
}
