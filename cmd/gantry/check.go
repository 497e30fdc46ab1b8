package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type checkCmd struct {
	Files []string `arg:"" name:"file" help:"Pipeline files, or folders of them."`
}

// Run is called by the parser.
func (k *checkCmd) Run(c console) error {
	list, err := pipeline.LoadAll(k.Files, all.Drivers(), os.LookupEnv)
	if err != nil {
		if problems, ok := errors.AsType[pipeline.Problems](err); ok {
			fmt.Fprintln(c.out, problems.Error())
			return quietError(exitUsage)
		}
		return usageError{err}
	}
	for _, p := range list {
		fmt.Fprintf(c.out, "ok  %s  %s\n", p.Name, p.Version.String()[:12])
	}
	return nil
}
