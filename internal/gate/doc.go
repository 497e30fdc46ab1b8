// Package gate is the only door to the outside: a call passes it with a record, within limits and
// to the declared target, or not at all. Read gate.go for the order of a call, unit.go for whose unit it takes, meter.go for the
// numbers of a running one, control.go for what belongs to no call, egress.go for the policy on
// connections and answers, wire.go and answer.go for the bytes of both directions, and classify.go
// for what a broken call is called.
package gate
