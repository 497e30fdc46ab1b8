// Package sim attacks the real scheduler, engine and gate with faults, on a model of the store (package model),
// in virtual time and from one seed. It has tests alone: TestSeeds runs many seeds, TestControls shows that each
// guard is needed, and TestConformance holds the model to PostgreSQL.
package sim
