package engine

import (
	"context"
	"io"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// previewer stands for everything around the engine during a preview: a store that holds one file
// and forgets what is committed, since the work of a task remembers it.
type previewer struct {
	PreviewOptions
	plan    *Plan
	depends [][]string // by stage: conditions that answers decide
	read    map[gantry.ItemID]itemRead
	file    *os.File
	size    int64
	name    string
}

// itemRead is what reading an item of the task's own media came to.
type itemRead struct {
	size int64
	err  error
}

// Plan gives the one plan.
func (x *previewer) Plan(context.Context, int32) (*Plan, error) { return x.plan, nil }

// Originals gives the file, as gantry run would announce it.
func (x *previewer) Originals(context.Context, gantry.TaskID) ([]gantry.Arrival, error) {
	return []gantry.Arrival{{Source: x.Pipeline.Name + "/run", Name: x.name, Size: x.size, Location: "input"}}, nil
}

// Items gives none: nothing was done before.
func (x *previewer) Items(context.Context, gantry.TaskID) ([]gantry.Item, error) { return nil, nil }

// Parts gives none.
func (x *previewer) Parts(context.Context, gantry.TaskID, int16) ([]gantry.Part, error) {
	return nil, nil
}

// Children gives none.
func (x *previewer) Children(context.Context, gantry.TaskID) ([]gantry.ChildTask, error) {
	return nil, nil
}

// MemberItems gives none: members are made with their items.
func (x *previewer) MemberItems(context.Context, gantry.TaskID) (gantry.TaskID, []gantry.Item, error) {
	return 0, nil, nil
}

// Commit keeps nothing.
func (x *previewer) Commit(context.Context, *gantry.Write) error { return nil }

// Stopping never ends.
func (x *previewer) Stopping() <-chan struct{} { return nil }

// Stage refuses: no answer comes.
func (x *previewer) Stage(context.Context, io.Reader, int64, int64) (gantry.Staged, error) {
	return nil, gantry.Errorf(gantry.Illegal, "", "keep answer: nothing is called")
}

// Open opens the file.
func (x *previewer) Open(context.Context, string) (gantry.Blob, error) {
	return inputBlob{io.NewSectionReader(x.file, 0, x.size)}, nil
}

// inputBlob is the file, which stays open until the preview ends.
type inputBlob struct{ *io.SectionReader }

// Close does nothing.
func (inputBlob) Close() error { return nil }
