package dimse

// The upper layer state machine of PS3.8 section 9.2 is a table: what is to be done when an event meets a state, and which
// state comes after. It does nothing itself; an Association fires events and does what the answer says.

// sta is a state (PS3.8 tables 9-1 to 9-5).
type sta uint8

const (
	sta1  sta = iota + 1 // idle
	sta2                 // connection open, waits for A-ASSOCIATE-RQ
	sta3                 // waits for our answer to it
	sta4                 // waits for the connection to open
	sta5                 // waits for A-ASSOCIATE-AC or -RJ
	sta6                 // established
	sta7                 // waits for A-RELEASE-RP
	sta8                 // waits for our answer to A-RELEASE-RQ
	sta9                 // release collision, requestor: waits for our answer
	sta10                // release collision, acceptor: waits for A-RELEASE-RP
	sta11                // release collision, requestor: waits for A-RELEASE-RP
	sta12                // release collision, acceptor: waits for our answer
	sta13                // the association is over, waits for the connection to close
	states
)

// evt is an event (PS3.8 table 9-10).
type evt uint8

const (
	evtAssociate evt = iota + 1 // 1: we ask for an association
	evtConnected                // 2: the connection that we asked for is open
	evtAC                       // 3: PDU
	evtRJ                       // 4: PDU
	evtIncoming                 // 5: a peer connected
	evtRQ                       // 6: PDU
	evtAccept                   // 7: we accept
	evtReject                   // 8: we reject
	evtSend                     // 9: we send data
	evtData                     // 10: PDU
	evtRelease                  // 11: we ask for release
	evtReleaseRQ                // 12: PDU
	evtReleaseRP                // 13: PDU
	evtReleased                 // 14: we answer a release
	evtAbort                    // 15: we abort
	evtAborted                  // 16: PDU
	evtClosed                   // 17: the connection is closed
	evtExpired                  // 18: the ARTIM timer
	evtInvalid                  // 19: an unrecognized or invalid PDU
	events
)

// act is what is to be done (PS3.8 tables 9-6 to 9-9).
type act uint8

const (
	actNone act = iota // the event may not come in this state: of ours it is refused, nothing changes
	ae1                // open the connection
	ae2                // send A-ASSOCIATE-RQ
	ae3                // accepted
	ae4                // rejected; close
	ae5                // begin to wait, ARTIM
	ae6                // look at the request: go on, or send A-ASSOCIATE-RJ, ARTIM
	ae7                // send A-ASSOCIATE-AC
	ae8                // send A-ASSOCIATE-RJ, ARTIM
	dt1                // send P-DATA-TF
	dt2                // data came
	ar1                // send A-RELEASE-RQ
	ar2                // the peer asks for release
	ar3                // released; close
	ar4                // send A-RELEASE-RP, ARTIM
	ar5                // stop ARTIM
	ar6                // data came
	ar7                // send P-DATA-TF
	ar8                // the peer asks for release as well
	ar9                // send A-RELEASE-RP
	ar10               // our release was answered
	aa1                // send A-ABORT as the service's user, ARTIM
	aa2                // stop ARTIM; close
	aa3                // aborted by the peer; close
	aa4                // the connection broke
	aa5                // stop ARTIM
	aa6                // ignore the PDU
	aa7                // send A-ABORT
	aa8                // send A-ABORT as the service's provider, ARTIM
	acts
)

// table is PS3.8 table 9-10. What is not in it is actNone.
var table = [events][states]act{
	evtAssociate: {sta1: ae1},
	evtConnected: {sta4: ae2},
	evtAC:        {sta2: aa1, sta3: aa8, sta5: ae3, sta6: aa8, sta7: aa8, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6},
	evtRJ:        {sta2: aa1, sta3: aa8, sta5: ae4, sta6: aa8, sta7: aa8, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6},
	evtIncoming:  {sta1: ae5},
	evtRQ:        {sta2: ae6, sta3: aa8, sta5: aa8, sta6: aa8, sta7: aa8, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa7},
	evtAccept:    {sta3: ae7},
	evtReject:    {sta3: ae8},
	evtSend:      {sta6: dt1, sta8: ar7},
	evtData:      {sta2: aa1, sta3: aa8, sta5: aa8, sta6: dt2, sta7: ar6, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6},
	evtRelease:   {sta6: ar1},
	evtReleaseRQ: {sta2: aa1, sta3: aa8, sta5: aa8, sta6: ar2, sta7: ar8, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6},
	evtReleaseRP: {sta2: aa1, sta3: aa8, sta5: aa8, sta6: aa8, sta7: ar3, sta8: aa8, sta9: aa8, sta10: ar10, sta11: ar3, sta12: aa8, sta13: aa6},
	evtReleased:  {sta8: ar4, sta9: ar9, sta12: ar4},
	evtAbort:     {sta3: aa1, sta4: aa2, sta5: aa1, sta6: aa1, sta7: aa1, sta8: aa1, sta9: aa1, sta10: aa1, sta11: aa1, sta12: aa1},
	evtAborted:   {sta2: aa2, sta3: aa3, sta5: aa3, sta6: aa3, sta7: aa3, sta8: aa3, sta9: aa3, sta10: aa3, sta11: aa3, sta12: aa3, sta13: aa2},
	evtClosed:    {sta2: aa5, sta3: aa4, sta4: aa4, sta5: aa4, sta6: aa4, sta7: aa4, sta8: aa4, sta9: aa4, sta10: aa4, sta11: aa4, sta12: aa4, sta13: ar5},
	evtExpired:   {sta2: aa2, sta13: aa2},
	evtInvalid:   {sta2: aa1, sta3: aa8, sta5: aa8, sta6: aa8, sta7: aa8, sta8: aa8, sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa7},
}

// after says which state an action leads to. AE-6 and AR-8 have a second one: see fire.
var after = [acts]sta{
	ae1: sta4, ae2: sta5, ae3: sta6, ae4: sta1, ae5: sta2, ae6: sta3, ae7: sta6, ae8: sta13,
	dt1: sta6, dt2: sta6,
	ar1: sta7, ar2: sta8, ar3: sta1, ar4: sta13, ar5: sta1, ar6: sta7, ar7: sta8, ar8: sta9, ar9: sta11, ar10: sta12,
	aa1: sta13, aa2: sta1, aa3: sta1, aa4: sta1, aa5: sta1, aa6: sta13, aa7: sta13, aa8: sta13,
}

// machine is in one state of the table.
type machine struct {
	state     sta
	requestor bool
	refuse    bool // the provider does not take the request that AE-6 looks at
}

// fire lets an event happen and says what is to be done now.
func (m *machine) fire(e evt) act {
	do := table[e][m.state]
	switch {
	case do == actNone:
		return actNone
	case do == ae6 && m.refuse:
		m.state = sta13
	case do == ar8 && !m.requestor:
		m.state = sta10
	default:
		m.state = after[do]
	}
	return do
}

// event says which event the arrival of a PDU of this type is.
func (h pduHeader) event() evt {
	switch h.kind {
	case pduAssociateRQ:
		return evtRQ
	case pduAssociateAC:
		return evtAC
	case pduAssociateRJ:
		return evtRJ
	case pduData:
		return evtData
	case pduReleaseRQ:
		return evtReleaseRQ
	case pduReleaseRP:
		return evtReleaseRP
	case pduAbort:
		return evtAborted
	}
	return evtInvalid
}
