// Package dimse speaks DICOM over TCP: the upper layer protocol (PS3.8) with its PDUs, state machine and timers, and on it
// the DIMSE services (PS3.7) that gantry uses and provides: C-ECHO, C-STORE, C-FIND, N-ACTION and N-EVENT-REPORT. Data sets
// pass through as streams of exact bytes; nothing is held that a peer announced, only what it sent, within limits.
package dimse
