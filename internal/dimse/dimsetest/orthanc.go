package dimsetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// plugin is the one for DICOMweb, where Debian puts it.
const plugin = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

// Modality is a peer as Orthanc knows it, at 127.0.0.1.
type Modality struct {
	AET  string
	Port int
}

// Settings say how Orthanc is run.
type Settings struct {
	AET        string              // its AE title; empty: ORTHANC
	DICOMweb   bool                // with the plug-in, at /dicom-web
	Modalities map[string]Modality // by the name that its API has for each
	More       map[string]any      // of its configuration file, over what stands there
	Args       []string            // more arguments, such as "--verbose"
}

// Archived is an Orthanc under way: a DICOM archive with an API.
type Archived struct {
	*Peer
	URL string // of the API, without a slash at the end
}

// Orthanc runs Orthanc until the test ends. It takes everything, overwrites what comes again, and answers storage commitment to
// peers among its modalities.
func Orthanc(t testing.TB, s Settings) *Archived {
	t.Helper()
	a, err := StartOrthanc(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "Orthanc", a.Peer, nil)
	return a
}

// StartOrthanc runs Orthanc with its data in dir until it is stopped.
func StartOrthanc(dir string, s Settings) (*Archived, error) {
	if s.AET == "" {
		s.AET = "ORTHANC"
	}
	if _, err := os.Stat(plugin); s.DICOMweb && err != nil {
		return nil, errors.New("no plug-in for DICOMweb; Debian's package orthanc-dicomweb holds it, and make deps-test installs it")
	}
	store, config := filepath.Join(dir, "store"), filepath.Join(dir, "orthanc.json")
	a := &Archived{}
	p, err := start("Orthanc", store, func(port int) ([]string, error) {
		web, err := freePort()
		if err != nil {
			return nil, err
		}
		a.URL = fmt.Sprintf("http://127.0.0.1:%d", web)
		text, err := json.MarshalIndent(s.config(store, port, web), "", " ")
		if err != nil {
			return nil, err
		}
		return append([]string{config}, s.Args...), os.WriteFile(config, text, 0o644)
	})
	if err != nil {
		return nil, err
	}
	a.Peer, p.AET = p, s.AET
	if err := a.begin(); err != nil {
		p.Stop()
		return nil, err
	}
	return a, nil
}

// config is its configuration file.
func (s Settings) config(store string, port, web int) map[string]any {
	known, plugins := map[string]any{}, []string{}
	for name, m := range s.Modalities {
		known[name] = map[string]any{"AET": m.AET, "Host": "127.0.0.1", "Port": m.Port}
	}
	if s.DICOMweb {
		plugins = append(plugins, plugin)
	}
	c := map[string]any{
		"Name": "peer", "DicomAet": s.AET, "DicomPort": port, "HttpPort": web, "StorageDirectory": store, "IndexDirectory": store, "Plugins": plugins,
		"DicomModalities": known, "DicomAlwaysAllowStore": true, "DicomAlwaysAllowEcho": true, "DicomAlwaysAllowFind": true, "DicomAlwaysAllowMove": true,
		"OverwriteInstances": true, "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "UnknownSopClassAccepted": true, "StableAge": 1,
		"MaximumPduLength": 131072, "TcpNoDelay": true, "DicomAssociationCloseDelay": 0,
	}
	maps.Copy(c, s.More)
	return c
}

// begin waits for the API.
func (a *Archived) begin() error {
	var err error
	for range 300 {
		var system struct{ Version string }
		if err = a.call(http.MethodGet, "/system", nil, &system); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the API of Orthanc does not answer: %w", err)
}

// call asks the API. The body is sent as it is if it is bytes, else as JSON; the answer goes to a *[]byte as it is, else as JSON.
func (a *Archived) call(method, path string, body, answer any) error {
	raw, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequest(method, a.URL+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, b)
	}
	switch to := answer.(type) {
	case nil:
		return nil
	case *[]byte:
		*to = b
		return nil
	}
	return json.Unmarshal(b, answer)
}

// Get asks the API for JSON, or for bytes if answer is a *[]byte.
func (a *Archived) Get(t testing.TB, path string, answer any) {
	t.Helper()
	if err := a.call(http.MethodGet, path, nil, answer); err != nil {
		t.Fatal(err)
	}
}

// Post sends bytes, or a value as JSON, to the API. The answer may be nil.
func (a *Archived) Post(t testing.TB, path string, body, answer any) {
	t.Helper()
	if err := a.call(http.MethodPost, path, body, answer); err != nil {
		t.Fatal(err)
	}
}

// Load puts a file into it by the API and gives the identifier that it has there.
func (a *Archived) Load(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var stored struct{ ID string }
	a.Post(t, "/instances", b, &stored)
	return stored.ID
}

// Send has it send instances, series or studies, by their identifiers, to one of its modalities by C-STORE, and waits for the end.
func (a *Archived) Send(t testing.TB, modality string, ids ...string) {
	t.Helper()
	a.Post(t, "/modalities/"+modality+"/store", map[string]any{"Resources": ids, "Synchronous": true}, nil)
}

// Studies lists the identifiers of what it holds.
func (a *Archived) Studies(t testing.TB) (ids []string) {
	t.Helper()
	a.Get(t, "/studies", &ids)
	return ids
}

// Instances lists the identifiers of what it holds.
func (a *Archived) Instances(t testing.TB) (ids []string) {
	t.Helper()
	a.Get(t, "/instances", &ids)
	return ids
}
