package dicom

// vr is a value representation: its two letters, or 0 where the encoding has none.
type vr uint16

// The value representations of PS3.5 section 6.2.
const (
	vrAE vr = 'A'<<8 | 'E'
	vrAS vr = 'A'<<8 | 'S'
	vrAT vr = 'A'<<8 | 'T'
	vrCS vr = 'C'<<8 | 'S'
	vrDA vr = 'D'<<8 | 'A'
	vrDS vr = 'D'<<8 | 'S'
	vrDT vr = 'D'<<8 | 'T'
	vrFD vr = 'F'<<8 | 'D'
	vrFL vr = 'F'<<8 | 'L'
	vrIS vr = 'I'<<8 | 'S'
	vrLO vr = 'L'<<8 | 'O'
	vrLT vr = 'L'<<8 | 'T'
	vrOB vr = 'O'<<8 | 'B'
	vrOD vr = 'O'<<8 | 'D'
	vrOF vr = 'O'<<8 | 'F'
	vrOL vr = 'O'<<8 | 'L'
	vrOV vr = 'O'<<8 | 'V'
	vrOW vr = 'O'<<8 | 'W'
	vrPN vr = 'P'<<8 | 'N'
	vrSH vr = 'S'<<8 | 'H'
	vrSL vr = 'S'<<8 | 'L'
	vrSQ vr = 'S'<<8 | 'Q'
	vrSS vr = 'S'<<8 | 'S'
	vrST vr = 'S'<<8 | 'T'
	vrSV vr = 'S'<<8 | 'V'
	vrTM vr = 'T'<<8 | 'M'
	vrUC vr = 'U'<<8 | 'C'
	vrUI vr = 'U'<<8 | 'I'
	vrUL vr = 'U'<<8 | 'L'
	vrUN vr = 'U'<<8 | 'N'
	vrUR vr = 'U'<<8 | 'R'
	vrUS vr = 'U'<<8 | 'S'
	vrUT vr = 'U'<<8 | 'T'
	vrUV vr = 'U'<<8 | 'V'
)

// known tells whether it is one, and whether its length field has 32 bits (PS3.5 section 7.1.2).
func (v vr) known() (ok, long bool) {
	switch v {
	case vrOB, vrOD, vrOF, vrOL, vrOV, vrOW, vrSQ, vrSV, vrUC, vrUN, vrUR, vrUT, vrUV:
		return true, true
	case vrAE, vrAS, vrAT, vrCS, vrDA, vrDS, vrDT, vrFD, vrFL, vrIS, vrLO, vrLT, vrPN,
		vrSH, vrSL, vrSS, vrST, vrTM, vrUI, vrUL, vrUS:
		return true, false
	}
	return false, false
}

// charRule says which control characters a value may hold (PS3.5 section 6.1.3).
type charRule uint8

const (
	notText  charRule = iota
	lineText          // none; escape only where the character set uses code extensions
	freeText          // also tab, line feed, form feed and carriage return
)

func (v vr) chars() charRule {
	switch v {
	case vrST, vrLT, vrUT:
		return freeText
	case vrAE, vrAS, vrCS, vrDA, vrDS, vrDT, vrIS, vrLO, vrPN, vrSH, vrTM, vrUC, vrUI, vrUR:
		return lineText
	}
	return notText
}

// unit is the size of one number, 1 for text and 0 for what tags.go does not show.
func (v vr) unit() int {
	switch v {
	case vrUS, vrSS:
		return 2
	case vrUL, vrSL, vrFL:
		return 4
	case vrFD:
		return 8
	}
	if v.chars() != notText {
		return 1
	}
	return 0
}

// letters gives the two letters; "UN" for 0.
func (v vr) letters() string {
	if v == 0 {
		v = vrUN
	}
	return string([]byte{byte(v >> 8), byte(v)})
}
