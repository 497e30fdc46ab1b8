// Package engine moves one task one step: the effect of its state, and what comes of it. engine.go
// holds the step, work.go what is known of a task while this process holds it, shelf.go how its
// items are read; then one file per state: extract.go, ingest.go, infer.go (flow.go says what a
// stage reads, pass.go what it leaves and condition.go what is left out; batch.go plans its parts,
// part.go makes one call; deferred.go and tickets.go where the answer comes later), respond.go (manifest.go). A task may be divided: children.go says what its
// children hold, shard.go divides by size and studies.go by what the media say. preview.go follows one file through all of it
// without a call, on what previewer.go puts in the place of everything around.
package engine
