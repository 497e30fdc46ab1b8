package pipeline

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The keys of an aws block reach the credential.
func TestAWSCredential(t *testing.T) {
	t.Parallel()
	want := gantry.Credential{Name: "a", Kind: "aws", Region: "eu-west-1", RoleARN: "arn:aws:iam::1:role/r",
		AccessKeyID: "${env:ID}", SecretAccessKey: "${env:KEY}", SessionToken: "${env:T}"}
	block := auth{Kind: "aws", Config: &awsKeys{Region: want.Region, RoleARN: want.RoleARN,
		AccessKeyID: want.AccessKeyID, SecretAccessKey: want.SecretAccessKey, SessionToken: want.SessionToken}}
	if got := (endpoint{Auth: "a"}).build("in", map[string]auth{"a": block}); *got.Auth != want {
		t.Errorf("got %+v, want %+v", *got.Auth, want)
	}
	if c, ok := (kinds{}).config("auth", "aws"); !ok || c == nil {
		t.Error("auth has no kind aws")
	}
}
