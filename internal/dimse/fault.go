package dimse

import (
	"fmt"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Reason codes of associations.
const (
	CodeCalledUnknown    gantry.Code = "called_ae_unknown"            // denied: the peer does not know the AE title that we called
	CodeCallingUnknown   gantry.Code = "calling_ae_unknown"           // denied: nor ours
	CodeTLS              gantry.Code = "tls"                          // denied: the peer is not who it should be, or takes us for somebody else
	CodeApplication      gantry.Code = "application_context_unknown"  // denied: it speaks no DICOM
	CodeProtocolVersion  gantry.Code = "protocol_version_unknown"     // denied
	CodeRejected         gantry.Code = "association_rejected"         // denied or unavailable: for no reason given
	CodeCongestion       gantry.Code = "temporary_congestion"         // unavailable
	CodeLocalLimit       gantry.Code = "local_limit_exceeded"         // unavailable
	CodeIdentityIgnored  gantry.Code = "identity_unconfirmed"         // denied: the peer was asked to confirm our identity and did not
	CodeAborted          gantry.Code = "association_aborted"          // transient: by the peer, or by us
	CodeConnectionLost   gantry.Code = "connection_lost"              // transient
	CodeConnectionClosed gantry.Code = "connection_closed"            // transient: by the peer, without a release
	CodeArtim            gantry.Code = "association_timeout"          // timeout: no association was asked for, or it was not answered
	CodeIdle             gantry.Code = "idle_timeout"                 // timeout: nothing came between messages
	CodeData             gantry.Code = "data_timeout"                 // timeout: nothing more came, or went, within a message
	CodeRelease          gantry.Code = "release_timeout"              // timeout: the peer did not answer a release
	CodeMalformedPDU     gantry.Code = "malformed_pdu"                // bad response: bytes that are no PDU, or break its rules
	CodeUnexpectedPDU    gantry.Code = "unexpected_pdu"               // bad response: a PDU that may not come now
	CodePDUTooLarge      gantry.Code = "pdu_too_large"                // bad response: above what we announced
	CodeSetTooLarge      gantry.Code = "command_set_too_large"        // bad response: a command set above 64 KiB
	CodeBadParams        gantry.Code = "bad_association_parameters"   // illegal: what we were told to ask for cannot be asked for
	CodeNoContext        gantry.Code = "presentation_context_unknown" // bad response or illegal: a message for a context that was not accepted
)

// Sources and reasons of A-ABORT (PS3.8 section 9.3.8).
const (
	abortUser     byte = 0
	abortProvider byte = 2

	reasonNone           byte = 0
	reasonUnrecognized   byte = 1 // unrecognized PDU
	reasonUnexpected     byte = 2 // unexpected PDU
	reasonUnknownParam   byte = 4 // unrecognized PDU parameter
	reasonUnexpectedPart byte = 5 // unexpected PDU parameter
	reasonBadValue       byte = 6 // invalid PDU parameter value
)

// fault is a breach of the protocol by the peer, with the reason that it is aborted for.
type fault struct {
	reason byte
	err    *gantry.Error
}

func (f *fault) Error() string { return f.err.Error() }

// Unwrap gives what carries the kind and the code.
func (f *fault) Unwrap() error { return f.err }

func faultf(reason byte, code gantry.Code, format string, args ...any) *fault {
	return &fault{reason: reason, err: gantry.Errorf(gantry.BadResponse, code, format, args...)}
}

// malformed is a fault in the bytes of a PDU.
func malformed(what string) *fault {
	return faultf(reasonBadValue, CodeMalformedPDU, "read PDU: %s", what)
}

// Rejection refuses an association (PS3.8 section 9.3.4). It is an error.
type Rejection struct {
	Transient bool // result 2; else permanent, 1
	Source    byte // 1 service-user, 2 service-provider (ACSE), 3 service-provider (presentation)
	Reason    byte
}

// The rejections of PS3.8 section 9.3.4, table 9-21.
func rejectNoReason() *Rejection    { return &Rejection{Source: 1, Reason: 1} }
func rejectApplication() *Rejection { return &Rejection{Source: 1, Reason: 2} }
func rejectVersion() *Rejection     { return &Rejection{Source: 2, Reason: 2} }
func rejectLimit() *Rejection       { return &Rejection{Transient: true, Source: 3, Reason: 2} }

// Error says why.
func (r *Rejection) Error() string {
	_, why := r.meaning()
	lasting := "for good"
	if r.Transient {
		lasting = "for now"
	}
	return "association rejected " + lasting + ": " + why
}

// meaning gives a rejection's code and words (PS3.8 table 9-21).
func (r *Rejection) meaning() (gantry.Code, string) {
	switch [2]byte{r.Source, r.Reason} {
	case [2]byte{1, 2}:
		return CodeApplication, "application context name not supported"
	case [2]byte{1, 3}:
		return CodeCallingUnknown, "calling AE title not recognized"
	case [2]byte{1, 7}:
		return CodeCalledUnknown, "called AE title not recognized"
	case [2]byte{2, 2}:
		return CodeProtocolVersion, "protocol version not supported"
	case [2]byte{3, 1}:
		return CodeCongestion, "temporary congestion"
	case [2]byte{3, 2}:
		return CodeLocalLimit, "local limit exceeded"
	case [2]byte{1, 1}, [2]byte{2, 1}:
		return CodeRejected, "no reason given"
	}
	return CodeRejected, fmt.Sprintf("source %d, reason %d", r.Source, r.Reason)
}

// failure is the error that a requestor gets. What a provider says about its load passes, whatever the result is called.
func (r *Rejection) failure() error {
	code, _ := r.meaning()
	kind := gantry.Denied
	if r.Transient || r.Source == 3 {
		kind = gantry.Unavailable
	}
	return gantry.Errorf(kind, code, "request association: %w", r)
}

// abortedBy is the end of an association by a peer's A-ABORT.
func abortedBy(source, reason byte) error {
	who := "the peer's user"
	if source != abortUser {
		who = "the peer's provider"
	}
	return gantry.Errorf(gantry.Transient, CodeAborted, "association aborted by %s: reason %d", who, reason)
}
