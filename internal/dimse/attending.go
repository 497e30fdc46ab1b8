package dimse

// Attending is a Handler that is told which association it serves, before anything is asked of it: what it is asked for may
// have to be answered by an operation of its own, as storage commitment is (PS3.4 section J.3.3).
type Attending interface {
	Handler
	Attend(a *Association)
}
