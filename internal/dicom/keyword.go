package dicom

import (
	"bytes"
	"encoding/binary"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// Attribute is a data element as the dictionary has it (PS3.6).
type Attribute struct {
	Group, Number uint16
	VR            string // the first of those that it may have
	Keyword       string
}

// Text tells whether the attribute's values are text, and not numbers in binary, bytes or items.
func (a Attribute) Text() bool {
	switch a.VR {
	case "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT":
		return true
	}
	return false
}

// AttributeOf finds an attribute of a data set by its keyword, as in PatientID; false if there is none. Those of file meta information
// and of commands are none.
func AttributeOf(keyword string) (Attribute, bool) {
	info, err := tag.FindByKeyword(keyword)
	if err != nil || info.Tag.Group <= groupMeta || info.Tag.Group == 0xFFFE || len(info.VRs) == 0 {
		return Attribute{}, false
	}
	return Attribute{Group: info.Tag.Group, Number: info.Tag.Element, VR: info.VRs[0], Keyword: info.Keyword}, true
}

// TagsOf reads the elements of a data set without file meta information, such as a match of a query, as Tags does those of a file.
// Errors are as those of Tags.
func TagsOf(set []byte, transfer string) (map[string]string, error) {
	uid := []byte(transfer)
	if len(uid)%2 == 1 {
		uid = append(uid, 0)
	}
	file := bytes.NewBuffer(make([]byte, preambleSize, preambleSize+64+len(set)))
	file.WriteString("DICM")
	appendElement(file, binary.LittleEndian, tagMetaLength, vrUL, binary.LittleEndian.AppendUint32(nil, uint32(8+len(uid))))
	appendElement(file, binary.LittleEndian, tagMetaSyntax, vrUI, uid)
	file.Write(set)
	tags, err := Tags(bytes.NewReader(file.Bytes()), int64(file.Len()))
	delete(tags, keywordSyntax)
	return tags, err
}
