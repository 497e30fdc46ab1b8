package main

import (
	"fmt"

	"github.com/gantry-imaging/gantry/internal/sample"
)

type samplesCmd struct {
	Dir string `arg:"" name:"dir" help:"The folder; it is made if it is not there."`
}

// Run is called by the parser.
func (s *samplesCmd) Run(c console) error {
	paths, err := sample.WriteAll(s.Dir)
	for _, p := range paths {
		fmt.Fprintln(c.out, p)
	}
	return err
}
