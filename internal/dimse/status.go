package dimse

// Status is the status of a DIMSE response (PS3.7 annex C, PS3.4 annex B.2.3).
type Status uint16

// Statuses that gantry answers with or looks for.
const (
	StatusSuccess          Status = 0x0000
	StatusCancel           Status = 0xFE00
	StatusPending          Status = 0xFF00
	StatusPendingWarning   Status = 0xFF01 // optional keys are not supported
	StatusOutOfResources   Status = 0xA700 // try again later
	StatusMismatch         Status = 0xA900 // the data set does not match the SOP class
	StatusCannotUnderstand Status = 0xC000
	StatusProcessing       Status = 0x0110 // processing failure
	StatusNoSuchClass      Status = 0x0118
	StatusNoSuchAction     Status = 0x0123
	StatusNoSuchEvent      Status = 0x0113
	StatusNoSuchInstance   Status = 0x0112
	StatusInvalidArgument  Status = 0x0115
	StatusNotSupported     Status = 0x0122 // SOP class not supported
	StatusUnrecognized     Status = 0x0211 // unrecognized operation
	StatusNotAuthorized    Status = 0x0124
	StatusDuplicate        Status = 0x0111 // duplicate SOP instance
)

// Class is what a status means.
type Class uint8

// The classes (PS3.7 annex C).
const (
	Success Class = iota
	Warning
	Failure
	Cancelled
	Pending
)

// Class says what the status means.
func (s Status) Class() Class {
	switch {
	case s == StatusSuccess:
		return Success
	case s == StatusPending, s == StatusPendingWarning:
		return Pending
	case s == StatusCancel:
		return Cancelled
	case s == 0x0001, s&0xF000 == 0xB000, s == 0x0107, s == 0x0116:
		return Warning
	}
	return Failure
}
