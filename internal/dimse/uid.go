package dimse

// UIDs of SOP classes, instances and transfer syntaxes (PS3.6 annex A).
const (
	Verification              = "1.2.840.10008.1.1"
	StorageCommitment         = "1.2.840.10008.1.20.1"   // Storage Commitment Push Model SOP class
	StorageCommitmentInstance = "1.2.840.10008.1.20.1.1" // its well-known SOP instance
	StudyRootFind             = "1.2.840.10008.5.1.4.1.2.2.1"
	PatientRootFind           = "1.2.840.10008.5.1.4.1.2.1.1"

	ImplicitLE = "1.2.840.10008.1.2"
	ExplicitLE = "1.2.840.10008.1.2.1"
	DeflatedLE = "1.2.840.10008.1.2.1.99"
	ExplicitBE = "1.2.840.10008.1.2.2"
)
