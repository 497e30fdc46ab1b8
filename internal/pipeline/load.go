package pipeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Load reads one pipeline file. A file that cannot be read, or with mistakes, gives Problems.
func Load(path string, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, error) {
	p, _, err := load(path, k, env)
	return p, err
}

// LoadAll reads files, and of folders the files in them that end in .yaml or .yml, without those
// of folders below or whose names begin with a dot. The pipelines come in the order of their
// files. The mistakes of all files come together, as Problems; two pipelines of one name, and a
// folder without any, are mistakes too.
func LoadAll(paths []string, k Kinds, env func(string) (string, bool)) ([]*gantry.Pipeline, error) {
	all, _, err := loadAll(paths, k, env)
	return all, err
}

func loadAll(paths []string, k Kinds, env func(string) (string, bool)) ([]*gantry.Pipeline, []spots, error) {
	files, problems := find(paths)
	var all []*gantry.Pipeline
	var places []spots
	first := map[string]string{}
	for _, file := range files {
		p, at, err := load(file, k, env)
		if more, ok := errors.AsType[Problems](err); ok {
			problems = append(problems, more...)
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if other, taken := first[p.Name]; taken {
			at.name.Text = fmt.Sprintf("name: %s has a pipeline %s already", other, short(p.Name))
			problems = append(problems, at.name)
			continue
		}
		first[p.Name] = file
		all, places = append(all, p), append(places, at)
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return all, places, nil
}

// find lists the files that paths stand for, each once.
func find(paths []string) ([]string, Problems) {
	var files []string
	var problems Problems
	add := func(file string) {
		if file = filepath.Clean(file); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			add(path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			problems = append(problems, Problem{File: path, Text: reason(err)})
			continue
		}
		found := false
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if (ext == ".yaml" || ext == ".yml") && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				found = true
				add(filepath.Join(path, e.Name()))
			}
		}
		if !found {
			problems = append(problems, Problem{File: path, Text: "no file here ends in .yaml"})
		}
	}
	return files, problems
}

func load(path string, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, spots, error) {
	src, err := read(path)
	if err != nil {
		return nil, spots{}, Problems{{File: path, Text: reason(err)}}
	}
	return parse(path, src, k, env)
}

// read reads a regular file, and one byte more than is allowed of a larger one.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// reason is an error without the path that stands before it anyway.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}
