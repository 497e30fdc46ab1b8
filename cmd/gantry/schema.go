package main

import (
	"os"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type schemaCmd struct{}

// Run is called by the parser.
func (schemaCmd) Run(c console) error {
	schema, err := pipeline.Schema(all.Drivers())
	if err != nil {
		return err
	}
	_, err = c.out.Write(schema)
	return err
}

type diagramCmd struct {
	File string `short:"f" name:"file" help:"The pipeline file." required:"" placeholder:"FILE"`
}

// Run is called by the parser.
func (d *diagramCmd) Run(c console) error {
	p, err := pipeline.Load(d.File, all.Drivers(), os.LookupEnv)
	if err != nil {
		return err
	}
	_, err = c.out.Write([]byte(pipeline.Diagram(p)))
	return err
}
