package engine

import (
	"context"
	"strings"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// aboutTask says what lies at a path below the task's own place at a sink.
func (w *work) aboutTask(below string) gantry.About {
	return gantry.About{Pipeline: w.plan.Name, Task: w.task.PublicID, Created: w.task.CreatedAt, Source: w.sourceName(),
		Leg: w.task.Leg, Delivery: w.task.Delivery, Below: below}
}

func (w *work) aboutOutput(x delivered) gantry.About {
	a := w.aboutTask(x.path[len(w.prefix()):])
	st := w.plan.Stages[x.Stage]
	a.Stage, a.Processor, a.Call = st.Name, st.Call[x.Processor], x.key
	return a
}

// sourceName reads the name of the source that the task's original came from, once it is asked for: few sinks
// want to know it.
func (w *work) sourceName() func(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.source != nil {
		return w.source
	}
	var mu sync.Mutex
	var name string
	w.source = func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if name == "" {
			list, err := w.e.Store.Originals(ctx, w.task.Task)
			if err != nil {
				return "", err
			}
			name = list[0].Source[strings.LastIndexByte(list[0].Source, '/')+1:]
		}
		return name, nil
	}
	return w.source
}
