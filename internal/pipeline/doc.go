// Package pipeline reads pipeline files into gantry.Pipeline and says everything that is wrong with
// one at once, each mistake with its line, column and the nearest right name. Read parse.go and
// load.go first, then grammar.go (the keys, types and defaults), decode.go, nodes.go, fields.go and
// scalar.go (any tagged struct from YAML), build.go (names that must fit together), resolve.go (the
// canonical form that a version is the digest of), tree.go (what of YAML is read) and problem.go.
package pipeline
