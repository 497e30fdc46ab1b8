package dicom

import (
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
)

// The roots below which the standard keeps the classes of the Storage Service (PS3.4 annex B.5, PS3.6 annex A).
var storageRoots = []string{
	"1.2.840.10008.5.1.4.1.1.",                              // images, reports, presentation states, plans, waveforms
	"1.2.840.10008.5.1.4.34.7", "1.2.840.10008.5.1.4.34.10", // RT delivery instructions
}

// The classes of composite objects that a storage of their own takes by C-STORE (PS3.4 annex GG).
var storageOthers = []string{
	"1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1", // hanging protocols, colour palettes
	"1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.44.1", "1.2.840.10008.5.1.4.45.1", // implant templates
}

// The classes among them that are questions, below which there are no objects (PS3.4 annexes II and JJ).
var storageNot = []string{
	"1.2.840.10008.5.1.4.1.1.200.4", "1.2.840.10008.5.1.4.1.1.200.5", "1.2.840.10008.5.1.4.1.1.200.6", // protocol approvals: find, move, get
	"1.2.840.10008.5.1.4.1.1.201.2", "1.2.840.10008.5.1.4.1.1.201.3", "1.2.840.10008.5.1.4.1.1.201.4", // inventories: find, move, get
	"1.2.840.10008.5.1.4.1.1.201.5", "1.2.840.10008.5.1.4.1.1.201.6", // creation of inventories, repository query
}

// standardRoot is that of all UIDs which the standard itself gives out.
const standardRoot = "1.2.840.10008."

// storable tells whether an abstract syntax is one of objects to be kept. What is not of the standard is a private class: who
// proposes it to a storage wants it kept.
func storable(class string) bool {
	if !strings.HasPrefix(class, standardRoot) {
		return dicom.ValidUID(class)
	}
	return slices.Contains(storageOthers, class) || !slices.Contains(storageNot, class) &&
		slices.ContainsFunc(storageRoots, func(root string) bool { return strings.HasPrefix(class, root) && dicom.ValidUID(class) })
}

// Why a context is not accepted (PS3.8 section 9.3.3.2).
const (
	noAbstract = -1
	noTransfer = -2
)

// accept chooses the transfer syntax of a proposed context: the first that can be kept, since senders put first what they
// have. Only implicit little endian, which they have to propose, gives way to explicit little endian.
func accept(c dimse.Context, commit bool) int {
	native := c.Abstract == dimse.Verification || commit && c.Abstract == dimse.StorageCommitment
	if !native && !storable(c.Abstract) {
		return noAbstract
	}
	first := noTransfer
	for i, t := range c.Transfer {
		known := dicom.KnownSyntax(t)
		if native {
			known = t == dimse.ImplicitLE || t == dimse.ExplicitLE
		}
		switch {
		case !known:
		case first < 0:
			first = i
		case c.Transfer[first] == dimse.ImplicitLE && t == dimse.ExplicitLE:
			return i
		}
	}
	return first
}
