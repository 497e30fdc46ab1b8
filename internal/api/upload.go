package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of requests that are refused. Those with no note are Illegal.
const (
	CodeBadName     gantry.Code = "bad_name"
	CodeBadKey      gantry.Code = "bad_key"
	CodeBadWait     gantry.Code = "bad_wait"
	CodeBadDigest   gantry.Code = "bad_digest"
	CodeForm        gantry.Code = "form"          // the body is a form, not the object itself
	CodeEncoded     gantry.Code = "encoded"       // the body is compressed
	CodeBroken      gantry.Code = "upload_broken" // Permanent: the body ended before its end
	CodeIdle        gantry.Code = "idle_timeout"  // Timeout: the body stood still
	CodeBusy        gantry.Code = "busy"          // Unavailable
	CodeNotFound    gantry.Code = "no_route"      // NotFound
	CodeForeignSite gantry.Code = "foreign_site"  // Denied: another site's page asked, or under another name
)

const (
	maxName     = 255 // bytes
	maxKey      = 255 // bytes
	uploadsSide = 64  // uploads at once
)

// Upload is one object that somebody sent.
type Upload struct {
	Pipeline string
	Name     string        // what people call it; "" if nobody said
	Key      string        // the sender's own key; "" if it has none
	Size     int64         // -1 if not known
	SHA      gantry.Digest // zero if not known
	Body     io.Reader     // its errors are *gantry.Error
}

// upload answers 201 once the object and its task are durable.
func (t *tasks) upload(w http.ResponseWriter, r *http.Request) error {
	wait, err := waiting(r)
	if err != nil {
		return err
	}
	u, err := described(r)
	if err != nil {
		return err
	}
	id, err := t.take(w, r, u)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/tasks/"+id)
	x, err := t.look(r.Context(), id, wait)
	if err != nil { // what is durable stays so
		x = Task{ID: id, State: gantry.Queued.String()}
	}
	return answer(w, http.StatusCreated, x)
}

// take reads the body into the desk, if there is a place for it. An empty one is refused before anything is kept.
func (t *tasks) take(w http.ResponseWriter, r *http.Request, u Upload) (string, error) {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	default:
		return "", gantry.Errorf(gantry.Unavailable, CodeBusy, "there are %d uploads under way", cap(t.slots))
	}
	body := bufio.NewReader(&uploaded{r: r.Body, control: http.NewResponseController(w), idle: t.idle})
	if _, err := body.Peek(1); err == io.EOF {
		return "", gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "the body is empty")
	} else if err != nil {
		return "", err
	}
	u.Body = body
	id, err := t.desk.Upload(r.Context(), u)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil { // that the caller left was seen before the body's end
		err = broken()
	}
	return id, err
}

// uploaded is a request's body. It may not stand still; once it has ended there is nothing to wait for.
type uploaded struct {
	r       io.Reader
	control *http.ResponseController
	idle    time.Duration
}

// Read reads on.
func (u *uploaded) Read(p []byte) (int, error) {
	u.control.SetReadDeadline(time.Now().Add(u.idle))
	n, err := u.r.Read(p)
	switch {
	case err == io.EOF: // net/http reads on beside us, to see the caller go away
		u.control.SetReadDeadline(time.Time{})
		return n, err
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, gantry.Errorf(gantry.Timeout, CodeIdle, "read body: nothing came for %s", u.idle)
	}
	return n, broken()
}

func broken() error {
	return gantry.Errorf(gantry.Permanent, CodeBroken, "read body: it broke off")
}

// described reads what the header says of the body.
func described(r *http.Request) (Upload, error) {
	u := Upload{Pipeline: r.PathValue("name"), Key: r.Header.Get("Idempotency-Key"), Size: r.ContentLength}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch e := r.Header.Get("Content-Encoding"); {
	case e != "" && !strings.EqualFold(e, "identity"):
		return u, gantry.Errorf(gantry.Illegal, CodeEncoded, "the body must be the object itself, not encoded")
	case strings.HasPrefix(media, "multipart/"), media == "application/x-www-form-urlencoded":
		return u, gantry.Errorf(gantry.Illegal, CodeForm, "the body must be the object itself, not a form (curl --data-binary @FILE -H 'Content-Type: application/octet-stream')")
	case len(u.Key) > maxKey:
		return u, gantry.Errorf(gantry.Illegal, CodeBadKey, "Idempotency-Key is longer than %d bytes", maxKey)
	}
	var err error
	if u.Name, err = nameOf(r); err == nil {
		u.SHA, err = digestOf(r.Header.Values("Content-Digest"))
	}
	return u, err
}

// nameOf is the object's name: of the query, or of Content-Disposition (RFC 6266 section 4.3). Folders before
// it are left out.
func nameOf(r *http.Request) (string, error) {
	name := r.URL.Query().Get("name")
	if d := r.Header.Get("Content-Disposition"); name == "" && d != "" {
		_, params, err := mime.ParseMediaType(d)
		if err != nil {
			return "", gantry.Errorf(gantry.Illegal, CodeBadName, "Content-Disposition makes no sense")
		}
		name = params["filename"]
	}
	if name == "" {
		return "", nil
	}
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	if len(name) > maxName || name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", gantry.Errorf(gantry.Illegal, CodeBadName, "the name is no name of a file of up to %d bytes", maxName)
	}
	return name, nil
}

// digestOf reads the SHA-256 of Content-Digest (RFC 9530 section 2); zero if there is none.
func digestOf(lines []string) (gantry.Digest, error) {
	var d gantry.Digest
	for _, entry := range strings.Split(strings.Join(lines, ","), ",") {
		text, ok := strings.CutPrefix(strings.TrimSpace(entry), "sha-256=")
		if !ok {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(strings.Trim(text, ":"))
		if err != nil || len(b) != len(d) {
			return d, gantry.Errorf(gantry.Illegal, CodeBadDigest, "Content-Digest holds no SHA-256 in base64")
		}
		d = gantry.Digest(b)
	}
	return d, nil
}
