// Package gantry is the vocabulary of the product: tasks, items, parts, pipelines, calls, the
// state machine, and the small interfaces through which the outside world is reached. It holds
// no I/O. Read state.go first, then task.go, item.go, pipeline.go, call.go and ports.go.
package gantry
