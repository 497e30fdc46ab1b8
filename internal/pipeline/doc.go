// Package pipeline reads pipeline files into gantry.Pipeline and says everything that is wrong with
// one at once, each mistake with its line, column and the nearest right name. Read parse.go and load.go first,
// then grammar.go (the keys, their types and defaults), decode.go, nodes.go and scalar.go (any struct
// with tags from YAML), build.go (names that must fit together), resolve.go (the canonical form that a
// version is the digest of), tree.go, and problem.go.
package pipeline
