package dicom

import (
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of what a peer answered, and of files that are not what they should be.
const (
	CodeOutOfResources   gantry.Code = "out_of_resources"  // Unavailable: 0xA7xx
	CodeMismatch         gantry.Code = "dataset_mismatch"  // Permanent: 0xA9xx, the data set does not match its SOP class
	CodeNotUnderstood    gantry.Code = "not_understood"    // Permanent: 0xCxxx
	CodeProcessing       gantry.Code = "processing"        // Transient: 0x0110
	CodeNotAuthorized    gantry.Code = "not_authorized"    // Denied: 0x0124
	CodeNotSupported     gantry.Code = "not_supported"     // Permanent: 0x0122, 0x0211 and their like
	CodeRefused          gantry.Code = "refused"           // Permanent: another failure
	CodeStrangeStatus    gantry.Code = "strange_status"    // BadResponse: one that answers nothing
	CodeOddLength        gantry.Code = "odd_length"        // Permanent: the data set of a file of ours
	CodeSizeMismatch     gantry.Code = "size_mismatch"     // Transient: a file of ours
	CodeChecksumMismatch gantry.Code = "checksum_mismatch" // Transient: a file of ours
)

// storeError says what the status of a C-STORE response means (PS3.4 section B.2.3, PS3.7 section 9.1.1.1.9 and annex C); nil where the
// peer has the object: after a success, a warning, and where it says that it had it already. What is sent twice under one
// SOP Instance UID is the same object, so that is what became of an answer that was lost.
func storeError(s dimse.Status) *gantry.Error {
	switch {
	case s == dimse.StatusDuplicate, s.Class() == dimse.Success, s.Class() == dimse.Warning:
		return nil
	case s&0xff00 == dimse.StatusOutOfResources:
		return statusError(gantry.Unavailable, CodeOutOfResources, s, "the peer has no room")
	case s&0xff00 == dimse.StatusMismatch:
		return statusError(gantry.Permanent, CodeMismatch, s, "the data set does not match its SOP class")
	case s&0xf000 == dimse.StatusCannotUnderstand:
		return statusError(gantry.Permanent, CodeNotUnderstood, s, "the peer cannot understand it")
	}
	return commonError(s)
}

// commonError is what a status means that is none of a service's own (PS3.7 annex C).
func commonError(s dimse.Status) *gantry.Error {
	switch s {
	case dimse.StatusProcessing:
		return statusError(gantry.Transient, CodeProcessing, s, "the peer had a failure")
	case dimse.StatusNotAuthorized:
		return statusError(gantry.Denied, CodeNotAuthorized, s, "the peer does not allow it")
	case dimse.StatusNotSupported, dimse.StatusNoSuchClass, dimse.StatusUnrecognized, dimse.StatusNoSuchAction:
		return statusError(gantry.Permanent, CodeNotSupported, s, "the peer does not do this")
	}
	switch s.Class() {
	case dimse.Failure:
		return statusError(gantry.Permanent, CodeRefused, s, "the peer refuses it")
	case dimse.Cancelled, dimse.Pending:
		return statusError(gantry.BadResponse, CodeStrangeStatus, s, "the status is none of an end")
	}
	return nil
}

func statusError(kind gantry.Kind, code gantry.Code, s dimse.Status, text string) *gantry.Error {
	return gantry.Errorf(kind, code, "send: status %04X: %s", uint16(s), text)
}
